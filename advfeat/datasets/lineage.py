"""The chain of artifacts that one was made from, back to the real images."""

import io

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from advfeat.datasets.origins import origin_of
from advfeat.errors import DamagedArtifactError
from advfeat.spec import STORED, TrainSpec
from advfeat.storage import MODELS, Manifest, Store

_MOST_LEVELS = 100
"""Of a tree; stages of ours are no ten deep."""
_WIDTH = 160 + 4 * _MOST_LEVELS
"""What is drawn must fit: rich leaves out what does not."""
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
    """Draw a chain as a tree; what was drawn already, or lies too deep, is named without its inputs."""
    first = next(iter(chain.values()))
    tree = Tree(_label("", first))
    _grow(tree, first, chain)
    drawing = Console(file=io.StringIO(), width=_WIDTH, color_system=None)
    with drawing.capture() as captured:
        drawing.print(tree, soft_wrap=True)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _grow(tree: Tree, first: Link, chain: dict[str, Link]) -> None:
    """Draw below an artifact what it was made from, however long the chain."""
    drawn: set[str] = set()
    waiting = _branches(tree, first, 1)
    while waiting:
        parent, level, role, digest = waiting.pop()
        link, instead = chain[digest], None
        if digest in drawn:
            instead = "see above"
        elif link.inputs and level == _MOST_LEVELS:
            instead = "…"
        drawn.add(digest)
        branch = parent.add(_label(f"{role}: ", link, instead))
        if instead is None:
            waiting += _branches(branch, link, level + 1)


def _branches(tree: Tree, link: Link, level: int) -> list[tuple[Tree, int, str, str]]:
    """Return where, in which role and by which digest to draw a link's inputs, the first one last."""
    return [(tree, level, role, digest) for role, digest in reversed(link.inputs.items())]


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
    if recipe := parameters.get("recipe"):
        words += [recipe, f"{metrics.get('train_size', 0):,} images"]
    if training := parameters.get("training"):
        words += _training_words(TrainSpec.model_validate(training, context=STORED))
    elif manifest.stage in MODELS:
        words += [manifest.network, f"weights {metrics.get('file') or metrics['weights']}"]
    if attack := parameters.get("attack"):
        schedule = f" ({attack['schedule']})" if "schedule" in attack else ""
        words += [f"{attack['norm']} eps {attack['eps']}", f"{attack['steps']} steps{schedule}"]
    if "seed" in parameters:
        words.append(f"seed {parameters['seed']}")
    for name in ("attack_success", "test_accuracy"):
        if metrics.get(name) is not None:
            words.append(f"{name.replace('_', ' ')} {100 * metrics[name]:.1f} %")
    return ", ".join(words)


def _training_words(training: TrainSpec) -> list[str]:
    robust = ["adversarial training"] if training.adversarial else []
    return [training.model, f"{training.epochs} epochs", *robust]
