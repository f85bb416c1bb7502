"""Forecasters: FengWu through ONNX Runtime, and the learned forecaster of the embedded world."""
