"""TensorBoard and Weights & Biases: what they are told of a run, and the process that tells them."""
