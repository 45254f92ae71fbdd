"""The tiny base model of the demo: trained from scratch to describe distortions, but not to score well."""
