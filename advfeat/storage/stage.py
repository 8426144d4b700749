"""A stage: one node of the DAG, and what makes its artifact's digest."""

from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from advfeat.digest import stage_digest
from advfeat.extensions import OwnFunction

StageKind = Literal[
    "images",
    "source_model",
    "weights",
    "pretrained_model",
    "dataset",
    "shard",
    "target_model",
    "evaluation",
    "leakage",
    "two_dimensional",
    "report",
    "grid_report",
]

SOURCE_MODELS: tuple[StageKind, ...] = ("source_model", "pretrained_model")
"""Stages that play the role of a source model: trained, or trained by somebody else."""

MODELS: tuple[StageKind, ...] = (*SOURCE_MODELS, "target_model", "weights")
"""Stages whose artifacts are networks."""

# Raise a version when the same parameters and inputs give another artifact than before, unless it differs
# no more than those of two kinds of processors do: precision "auto" is fp32 on one and bf16 on another.
STAGE_VERSIONS: dict[StageKind, int] = {
    "images": 2,
    "source_model": 3,
    "weights": 1,
    "pretrained_model": 1,
    "dataset": 4,
    "shard": 3,
    "target_model": 3,
    "evaluation": 4,
    "leakage": 3,
    "two_dimensional": 3,
    "report": 8,
    "grid_report": 8,
}


class Stage(BaseModel):
    """One computation: reads the artifacts in ``inputs``, writes one artifact.

    ``parameters`` and ``inputs`` (role to digest) determine the result. The result does not depend
    on the rest: ``parts`` (digests) are the artifacts that the computation only joins, ``context``
    is what it needs besides, such as the folder that images lie in, and is read where the flow runs,
    ``code`` is of the user's own and builds networks wherever the stage is computed, ``threads`` are
    the cores and ``memory_bytes`` about the memory that it takes on each of ``workers`` processes.
    ``image_passes`` is about how often an image runs through a network, to tell the time left; ``flop``
    about how many floating-point operations that is, ``stored_bytes`` about how large the artifact will be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: StageKind
    title: str
    parameters: dict[str, Any]
    inputs: dict[str, str] = {}
    parts: tuple[str, ...] = ()
    context: dict[str, Any] = {}
    code: tuple[OwnFunction, ...] = ()
    threads: int = 1
    workers: int = 1
    memory_bytes: int = 0
    image_passes: int = 0
    flop: float = 0
    stored_bytes: int = 0

    @property
    def needs(self) -> tuple[str, ...]:
        """Digests of the artifacts that must be there before this stage can be computed."""
        return (*self.inputs.values(), *self.parts)

    @property
    def version(self) -> int:
        """Version of the code that computes this kind of stage."""
        return STAGE_VERSIONS[self.kind]

    @cached_property
    def digest(self) -> str:
        """The address of this stage's artifact."""
        return stage_digest(self.kind, self.version, self.parameters, self.inputs)
