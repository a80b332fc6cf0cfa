"""The ONNX frontend: model files to graphs."""
