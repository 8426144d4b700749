"""Computes damaged artifacts again, on this machine, as the plans of the store's runs say.

Where no plan names an artifact, its own manifest says how it was computed, if that is whole. A damaged
artifact stays until its replacement has been computed.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from advfeat import data
from advfeat.cluster.cores import usable_cores
from advfeat.cluster.embedded import local_ray
from advfeat.data.imported import describe
from advfeat.errors import AdvfeatError, DamagedArtifactError, InputError, StageFailedError, first_line
from advfeat.spec import DataSpec, is_own_source
from advfeat.storage import STAGE_VERSIONS, Manifest, Stage, Store
from advfeat.storage.runs import planned_stages


@dataclass(frozen=True)
class Repair:
    """What became of one damaged artifact."""

    digest: str
    title: str
    seconds: float = 0.0
    failure: str | None = None
    """Why it is damaged still."""
    changed: tuple[str, ...] = ()
    """Names of files that are whole, but not byte for byte what the manifest before promised."""


def repair(store: Store, digests: Iterable[str]) -> Iterator[Repair]:
    """Compute damaged artifacts again, and first what they are made from where that is damaged or gone.

    Tells of one after the other what became of it.
    """
    mender = _Mender(store)
    for digest in digests:
        yield from mender.mend(digest)


class _DoubtingStore(Store):
    """A store that takes no artifact for whole whose bytes it has not read."""

    def intact(self, digest: str) -> Manifest | None:
        manifest = self.find(digest)
        if manifest is not None and (problem := self.verify(digest)) is not None:
            raise DamagedArtifactError(problem)
        return manifest


class _Mender:
    def __init__(self, store: Store) -> None:
        self._store = _DoubtingStore(store.uri)
        self._failures: dict[str, str | None] = {}

    def mend(self, digest: str) -> Iterator[Repair]:
        if digest in self._failures:
            return
        if self._store.verify(digest) is None:
            self._failures[digest] = None
            return
        title = digest[:12]
        try:
            stage = self._stage(digest)
            title = stage.title
            for need in stage.needs:
                yield from self.mend(need)
                if (failure := self._failures[need]) is not None:
                    raise StageFailedError(f"needs {need[:12]}: {failure}")
            mended = self._compute(stage)
        except Exception as error:  # whatever torch, Ray or a file system raises: others may be mended
            mended = Repair(digest, title, failure=str(AdvfeatError(first_line(error))))
        self._failures[digest] = mended.failure
        yield mended

    def _compute(self, stage: Stage) -> Repair:
        from advfeat.stages.inline import compute

        before = self._store.readable_manifest(stage.digest)
        began = time.monotonic()
        with _ray_for(stage):
            compute(stage, self._store)
        seconds = time.monotonic() - began
        if (problem := self._store.verify(stage.digest)) is not None:
            raise DamagedArtifactError(problem)
        contents = {(file.name, file.sha256) for file in self._store.manifest(stage.digest).files}
        promised = before.files if before is not None else ()
        changed = sorted(file.name for file in promised if (file.name, file.sha256) not in contents)
        return Repair(stage.digest, stage.title, seconds, changed=tuple(changed))

    def _stage(self, digest: str) -> Stage:
        """Return what computes an artifact; raises ``AdvfeatError`` if nothing tells or it cannot be done."""
        stage = self._planned.get(digest) or self._described_by_manifest(digest)
        _check_source(stage)
        return stage

    def _described_by_manifest(self, digest: str) -> Stage:
        manifest = self._store.readable_manifest(digest)
        if manifest is None:
            raise StageFailedError("neither a run's plan nor an intact manifest says how it was computed")
        kinds = [kind for kind, version in STAGE_VERSIONS.items() if version == manifest.version]
        for kind in kinds:
            if kind == manifest.stage:
                training = manifest.parameters.get("training", {})
                return Stage(
                    kind=kind,
                    title=kind.replace("_", " "),
                    parameters=manifest.parameters,
                    inputs=manifest.inputs,
                    threads=training.get("threads", 1),
                    workers=training.get("workers", 1),
                )
        raise StageFailedError(
            f"version {manifest.version} of {manifest.stage} made it, which no longer exists"
        )

    @cached_property
    def _planned(self) -> dict[str, Stage]:
        return planned_stages(self._store)


def _ray_for(stage: Stage) -> AbstractContextManager[None]:
    """Start a Ray where several processes train; raises ``StageFailedError`` if cores are too few."""
    if stage.workers == 1:
        return nullcontext()
    if usable_cores() < stage.workers * stage.threads:
        wanted = f"{stage.workers} times {stage.threads} cores"
        raise StageFailedError(f"its training takes {wanted}, and here are {usable_cores()}")
    return local_ray()


def _check_source(stage: Stage) -> None:
    """Raise ``AdvfeatError`` unless the images from outside of the store are there, and are those meant."""
    if stage.kind == "images":
        spec = DataSpec.model_validate(_context(stage, "data"))
        if is_own_source(spec.source):  # named in a store, which is no reason to run it
            raise StageFailedError("its images come from a function of the user's; run its experiment again")
        data.fetch(spec)
        field, source, found = "data.source", spec.source, data.open_source(spec).identity()
    elif stage.parameters.get("recipe") == "imported":
        field, source = "imported", _context(stage, "imported")
        found = describe(source).identity
    else:
        return
    if found != stage.parameters["identity"]:
        raise InputError(field, source, "holds other images now", "restore the former ones")


def _context(stage: Stage, name: str) -> Any:
    if name not in stage.context:
        raise StageFailedError("no run's plan says where its images came from; run its experiment again")
    return stage.context[name]
