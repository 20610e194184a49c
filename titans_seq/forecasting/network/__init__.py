"""The forecasting network: tensors in, tensors out."""
