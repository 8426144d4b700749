"""What `advfeat reproduce` runs: one file a setting, read like an experiment of a user."""
