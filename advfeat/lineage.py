"""The chain of artifacts that one was made from, back to the real images."""

import io
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from advfeat.artifact import Manifest
from advfeat.errors import DamagedArtifactError
from advfeat.origins import origin_of
from advfeat.store import Store

_WIDTH = 160
_DIGITS = 12
"""Of a digest, in a tree."""


class Link(BaseModel):
    """One artifact of a chain: its inputs are digests by role, ``says`` tells in a few words what it is."""

    model_config = ConfigDict(frozen=True)

    digest: str
    stage: str
    says: str
    inputs: dict[str, str] = {}


def lineage(store: Store, digest: str) -> dict[str, Link]:
    """Return an artifact and all that it was made from, by digest, each before its inputs' inputs.

    What is missing or damaged is a link without inputs that says so.
    """
    found: dict[str, Link] = {}
    waiting = [digest]
    while waiting:
        if (wanted := waiting.pop(0)) not in found:
            found[wanted] = _link(store, wanted)
            waiting += found[wanted].inputs.values()
    return found


def lineage_text(chain: dict[str, Link]) -> str:
    """Draw a chain as a tree; what was drawn already is named again without its inputs."""
    first = next(iter(chain.values()))
    tree = Tree(_label("", first))
    _grow(tree, first, chain, set())
    drawing = Console(file=io.StringIO(), width=_WIDTH, color_system=None)
    with drawing.capture() as captured:
        drawing.print(tree, soft_wrap=True)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _grow(tree: Tree, link: Link, chain: dict[str, Link], drawn: set[str]) -> None:
    for role, digest in link.inputs.items():
        known = digest in drawn
        drawn.add(digest)
        branch = tree.add(_label(f"{role}: ", chain[digest], "see above" if known else None))
        if not known:
            _grow(branch, chain[digest], chain, drawn)


def _label(role: str, link: Link, instead: str | None = None) -> Text:
    said = instead or link.says
    return Text(f"{role}{link.stage} {link.digest[:_DIGITS]}{said and f'  {said}'}")


def _link(store: Store, digest: str) -> Link:
    try:
        manifest = store.find(digest)
    except DamagedArtifactError as damage:
        return Link(digest=digest, stage="artifact", says=f"damaged: {damage}")
    if manifest is None:
        return Link(digest=digest, stage="artifact", says="not in the store")
    return Link(digest=digest, stage=manifest.stage, says=_words(manifest), inputs=manifest.inputs)


def _words(manifest: Manifest) -> str:
    parameters, metrics = manifest.parameters, manifest.metrics
    words: list[str] = []
    if manifest.stage == "images":
        words += [
            origin_of(parameters["identity"]).source,
            f"{metrics['train_size']:,} training and {metrics['test_size']:,} test images",
            f"{len(metrics['classes'])} classes",
        ]
    if "recipe" in parameters:
        words += [parameters["recipe"], f"{metrics['train_size']:,} images"]
    if "training" in parameters:
        words += _training_words(parameters["training"])
    if "attack" in parameters:
        words += _attack_words(parameters["attack"])
    if "seed" in parameters:
        words.append(f"seed {parameters['seed']}")
    for name in ("attack_success", "test_accuracy"):
        if metrics.get(name) is not None:
            words.append(f"{name.replace('_', ' ')} {100 * metrics[name]:.1f} %")
    return ", ".join(words)


def _training_words(training: dict[str, Any]) -> list[str]:
    robust = training.get("adversarial")
    return [training["model"], f"{training['epochs']} epochs", *(["adversarial training"] if robust else [])]


def _attack_words(attack: dict[str, Any] | None) -> list[str]:
    return [] if attack is None else [f"{attack['norm']} eps {attack['eps']}", f"{attack['steps']} steps"]
