"""A stage's training by several processes: Ray Train places them and replaces what is lost."""

import contextlib
from typing import Any

import ray
import ray.train
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer

from advfeat.extensions import provide
from advfeat.progress import Progress
from advfeat.stages.process_group import NodeAddressConfig
from advfeat.stages.training import train, training_set, training_spec
from advfeat.storage import Stage, Store

_MAX_FAILURES = 5
"""How often lost processes are replaced; each time the training goes on from its last state."""


def train_on_workers(stage: Stage, store: Store, progress: Progress | None) -> None:
    """Train a stage's network on ``workers`` processes of this Ray cluster; its last state is in the store.

    The caller must hold no core and no GPU that the workers could need. Raises what the training raised.
    """
    spec = training_spec(stage)
    on_gpus = bool(ray.cluster_resources().get("GPU"))
    trainer = TorchTrainer(
        _train_a_share,
        torch_config=NodeAddressConfig(),
        train_loop_config={"stage": stage.model_dump(), "store": store.uri, "progress": progress},
        scaling_config=ScalingConfig(
            num_workers=spec.workers,
            use_gpu=on_gpus,
            resources_per_worker={"CPU": spec.threads, **({"GPU": 1} if on_gpus else {})},
        ),
        run_config=RunConfig(
            name=f"{stage.digest}-workers",
            storage_path=store.checkpoints,
            storage_filesystem=None if store.is_local else PyFileSystem(FSSpecHandler(store.fs)),
            failure_config=FailureConfig(max_failures=_MAX_FAILURES),
            logging_config=LoggingConfig(log_level="ERROR"),  # type: ignore[call-arg]  # V2 runs, V1 is typed
        ),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        raise next(iter(error.worker_failures.values()), error) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            store.fs.rm(f"{store.checkpoints}/{stage.digest}-workers", recursive=True)


def _train_a_share(config: dict[str, Any]) -> None:
    stage, store = Stage.model_validate(config["stage"]), Store(config["store"])
    provide(stage.code)
    first = ray.train.get_context().get_world_rank() == 0
    train(stage, store, training_set(stage, store), config["progress"] if first else None)
