"""The tiny base model of the demo: made from nothing, warm-started to describe but not to score well."""
