"""Computes what a configuration needs before a cluster is rented: `launch.py plan`."""
