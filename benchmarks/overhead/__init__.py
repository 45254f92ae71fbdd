"""What this system adds to the libraries under it, one part a module."""
