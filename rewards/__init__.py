"""The video-quality rewards of VQAThinker, and the pool of actors that compute them."""
