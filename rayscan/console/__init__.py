"""What a person watches: progress on the terminal, curves in TensorBoard and MLflow, units in words."""
