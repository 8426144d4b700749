"""Where files lie, and which can be trusted: Parquet tables and tensors, checked before they are believed."""
