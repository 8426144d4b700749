"""Ready experiments, one YAML file each."""
