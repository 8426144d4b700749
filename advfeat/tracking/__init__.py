"""What a finished run found, told to other people's tools: MLflow, Weights & Biases, TensorBoard.

All of it is read from the store, so that it makes no difference when a run is told. What a tool needs is
imported when it is told something.
"""
