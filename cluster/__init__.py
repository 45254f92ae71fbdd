"""Runs a job: configuration, control loop, weight sync, preflight checks, planning and remote commands."""
