"""What each artifact of a store is: its recipe, seed, attack and networks, told from manifests."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from advfeat.datasets.origins import origin_of
from advfeat.recipes import plain_name
from advfeat.storage import SOURCE_MODELS, Manifest, Store


class Description(BaseModel):
    """One artifact in the words of an experiment; ``None`` where a word does not apply, or is not known.

    Accuracy, success and length of perturbations are those that its stage measured; eps is in [0, 1] pixel
    units, of l0 a count of values. The recipe is that of the data set that it is, or was made from.
    """

    model_config = ConfigDict(frozen=True)

    digest: str
    stage: str
    recipe: str | None
    seed: int | None
    data: str | None
    norm: str | None
    eps: float | None
    source_model: str | None
    target_model: str | None
    images: int | None
    """Rows of its training split."""
    test_accuracy: float | None
    attack_success: float | None
    bytes: int
    created: str
    uri: str


def described(store: Store, newest: int | None = None) -> list[Description]:
    """Describe every readable artifact of a store, or those published last; the oldest first."""
    digests = store.digests() if newest is None else store.last_digests(newest)
    found = described_of(store, digests)
    return sorted(found, key=lambda entry: (entry.created, entry.stage, entry.digest))


def described_of(store: Store, digests: Iterable[str]) -> list[Description]:
    """Describe some artifacts of a store, as far as they can be read, by what they were made from."""
    wanted = list(dict.fromkeys(digests))
    known: dict[str, Manifest | None] = {}
    level = wanted
    while level:
        read = {manifest.digest: manifest for manifest in store.readable_manifests(level)}
        known |= {digest: read.get(digest) for digest in level}
        made_from = dict.fromkeys(digest for manifest in read.values() for digest in _made_from(manifest))
        level = [digest for digest in made_from if digest not in known]
    there = [manifest for digest in wanted if (manifest := known[digest]) is not None]
    return [_Reader(known, manifest).description(store) for manifest in there]


def chosen(found: list[Description], stage: str | None, recipe: str | None) -> list[Description]:
    """Return the descriptions of one stage and one recipe, as far as those are given."""
    return [
        entry
        for entry in found
        if (stage is None or entry.stage == stage)
        and (recipe is None or recipe in (entry.recipe or "").split(", "))
    ]


class _Reader:
    """Reads one manifest, and those of what it was made from as far as they are in the store."""

    def __init__(self, manifests: Mapping[str, Manifest | None], manifest: Manifest) -> None:
        self._manifests, self._manifest = manifests, manifest

    def description(self, store: Store) -> Description:
        """Return what is known of the artifact."""
        manifest, metrics = self._manifest, self._manifest.metrics
        attack = self._first("attack", ("dataset", "shard")) or {}
        return Description(
            digest=manifest.digest,
            stage=manifest.stage,
            recipe=self._recipe(),
            seed=manifest.parameters.get("seed", self._first("seed", ("target_model", "dataset"))),
            data=self._data(),
            norm=attack.get("norm"),
            eps=attack.get("eps"),
            source_model=self._network(SOURCE_MODELS),
            target_model=self._network(("target_model",)),
            images=metrics.get("train_size"),
            test_accuracy=metrics.get("test_accuracy"),
            attack_success=metrics.get("attack_success"),
            bytes=sum(file.bytes for file in manifest.files),
            created=manifest.created,
            uri=store.artifact_uri(manifest.digest),
        )

    def _recipe(self) -> str | None:
        parameters = self._manifest.parameters
        if self._manifest.stage == "report":
            return ", ".join(map(plain_name, (parameters.get("experiment") or {}).get("recipes", ())))
        if self._manifest.stage == "grid_report":
            return str(parameters.get("title", "")).partition(" · ")[0]
        if self._manifest.stage == "two_dimensional":
            return "two_dimensional"
        recipe = self._first("recipe", ("dataset", "shard"))
        return None if recipe is None else plain_name(str(recipe))

    def _data(self) -> str | None:
        images = self._nearest(("images",))
        return None if images is None else origin_of(images.parameters["identity"]).source

    def _network(self, stages: tuple[str, ...]) -> str | None:
        model = self._nearest(stages)
        return None if model is None else model.network

    def _first(self, parameter: str, stages: tuple[str, ...]) -> Any:
        """Return a parameter of the nearest artifact of these stages that has it."""
        nearest = self._nearest(stages)
        return None if nearest is None else nearest.parameters.get(parameter)

    def _nearest(self, stages: Iterable[str]) -> Manifest | None:
        """Return the artifact itself, or the nearest that it was made from, of one of these stages."""
        if self._manifest.stage in ("report", "grid_report") and set(stages) != {"images"}:
            return None  # it was made from many
        level = [self._manifest]
        while level:
            for manifest in level:
                if manifest.stage in stages:
                    return manifest
            made_from = dict.fromkeys(digest for manifest in level for digest in _made_from(manifest))
            level = [found for digest in made_from if (found := self._manifests.get(digest)) is not None]
        return None


def _made_from(manifest: Manifest) -> Iterable[str]:
    """Return what tells what an artifact is: what it was made from, without what it is only compared with.

    Of a report, which was made from many, that are its images.
    """
    if manifest.stage in ("report", "grid_report"):
        return (digest for role, digest in manifest.inputs.items() if role.rpartition("/")[2] == "images")
    beside: tuple[str, ...] = ("reference_model", "guard_", "other_images")
    if manifest.stage == "evaluation":
        beside += ("source_model", "dataset")  # the target model leads to its own
    return (digest for role, digest in manifest.inputs.items() if not role.startswith(beside))
