"""Where metrics go while a run trains: TensorBoard, Weights & Biases, Prometheus."""
