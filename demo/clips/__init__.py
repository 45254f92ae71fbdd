"""The demo set: short real and generated clips, distorted and labelled by a full-reference metric."""
