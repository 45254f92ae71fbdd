"""Send metrics during a run to TensorBoard, Weights & Biases and Prometheus."""
