"""What learns or forecasts: the VAE, the forecaster, and ONNX models of FengWu's contract."""
