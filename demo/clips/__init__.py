"""The demo set: short real and generated clips, really distorted, labelled by a full-reference metric."""
