"""Manifests, frames, perturbations, cohorts: what a run is trained and evaluated on."""
