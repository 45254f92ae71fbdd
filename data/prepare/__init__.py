"""Makes manifests from labels and videos, and from videos without labels."""
