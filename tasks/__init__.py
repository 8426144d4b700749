"""One Prefect task a stage: cache key, resources, retries, and nothing of what is computed."""
