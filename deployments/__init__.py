"""What a cluster needs; ``python -m deployments`` writes the recipes into ``prefect.yaml`` anew."""
