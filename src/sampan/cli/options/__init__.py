"""The flags of `run` and `create`: their syntax, and the API body that they make."""
