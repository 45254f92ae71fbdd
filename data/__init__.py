"""The data that a run is trained and evaluated on: manifests, frames, perturbations and cohorts."""
