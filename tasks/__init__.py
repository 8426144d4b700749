"""One Prefect task a stage: cache key, resources, retries, and nothing of what is computed.

Each task imports its computation when it runs, so that a flow, which only sends tasks to workers,
starts without torch.
"""

if __name__ != "advfeat.tasks":
    raise ImportError(
        "tasks is now a part of advfeat: import advfeat.tasks; to renew a deployment that "
        "names tasks.…: advfeat deploy POOL"
    )
