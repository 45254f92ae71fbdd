"""The same job for this system and for TRL's GRPOTrainer."""
