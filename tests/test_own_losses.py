"""Losses of the user's own: as strong as ours where they are ours, and tried before anything is computed."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from advfeat.attacks import Engine, perturb
from advfeat.attacks.own_loss import own_loss
from advfeat.errors import InputError
from advfeat.models import build
from advfeat.planning import Plan, build_plan, load_experiment
from advfeat.spec import LOSSES, Attack
from advfeat.storage import Store
from tests.inline import compute_all

FILE = """
import torch
import torch.nn.functional as F

def cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")

def margin(logits, labels):
    label = F.one_hot(labels, logits.shape[1]).bool()  # looks at the labels, which no traced step can do
    return logits.masked_fill(label, -torch.inf).amax(1) - logits.gather(1, labels[:, None]).squeeze(1)

def logit(logits, labels):
    if bool((logits.detach() > 1e9).any()):  # code that looks at its input
        raise ValueError
    return -logits[torch.arange(len(labels)), labels]

def mean(logits, labels):
    return F.cross_entropy(logits, labels)

def mixed(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none") - logits.logsumexp(1).mean()

def rounded(logits, labels):
    return (logits.argmax(1) != labels).float()

def broken(logits, labels):
    return logits @ labels

def rooted(logits, labels):
    return -logits.gather(1, labels[:, None]).squeeze(1).log()

text = "no function"
"""
SMALL = (
    *("recipes=[d_rand]", "seeds=[0]", "data.train_size=64", "data.test_size=40", "shards=1"),
    *("source.epochs=1", "source.width=4", "target.epochs=1", "target.width=4", "attack.steps=2"),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "loss.py"
    file.write_text(FILE)
    return file


ENGINES = [
    *product(LOSSES, [True, False], [False]),
    pytest.param("margin", True, True, marks=pytest.mark.slow),
]


@pytest.mark.filterwarnings("ignore:.*the attack step is not compiled")
@pytest.mark.parametrize(("loss", "targeted", "compiled"), ENGINES)
def test_ours_written_by_the_user_do_what_ours_do(
    loss: str, targeted: bool, compiled: bool, path: Path
) -> None:
    torch.manual_seed(0)
    model = build("mlp", width=4, image_shape=(1, 8, 8), classes=10).eval()
    images, labels = torch.rand(6, 1, 8, 8), torch.arange(6)
    attack = Attack(eps=1, steps=4, targeted=targeted, loss=loss)
    own = attack.model_copy(update={"loss": f"{path}:{loss.replace('-', '_')}"})
    engine = Engine("fp32", compiled=compiled)
    expected = perturb(model, images, labels, attack, engine=engine)
    assert torch.allclose(perturb(model, images, labels, own, engine=engine), expected, atol=1e-5)
    assert (expected - images).abs().max() > 0.05


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_worker_tries_it_anew_wherever_it_is_asked_for(mode: Callable[[], Any], path: Path) -> None:
    model = build("mlp", width=4, image_shape=(1, 8, 8), classes=10).eval()
    attack = Attack(eps=1, steps=1, loss=f"{path}:margin")
    own_loss.cache_clear()
    with mode():
        assert not torch.equal(perturb(model, torch.ones(1, 1, 8, 8), [3], attack), torch.ones(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("mean", r"returns \(\) for 4 images; return one value per image"),
        ("mixed", "mixes the images of a batch"),
        ("rounded", "passes no gradient on"),
        ("broken", r"fails: RuntimeError: .* \(loss.py, line 27\)"),
        ("rooted", "returns values that are not finite"),
        ("text", "has no function text; there are cross_entropy"),
        ("nowhere", "has no function nowhere"),
    ],
)
@pytest.mark.parametrize("field", ["attack.loss", "evaluation.attack", "source.adversarial"])
def test_what_is_no_loss_is_refused_by_the_plan(field: str, function: str, told: str, path: Path) -> None:
    loss = f"{path}:{function}"
    given = loss if field == "attack.loss" else f"{{eps: 1, steps: 1, loss: '{loss}'}}"
    with pytest.raises(InputError, match=f"^{field.removesuffix('.loss')}\\.loss: .*{told}") as refused:
        planned(f"{field}={given}")
    assert "\n" not in str(refused.value)


def planned(*assignments: str) -> Plan:
    return build_plan(load_experiment("digits", [*SMALL, *assignments]))


def test_a_name_that_is_none_is_refused_with_what_is() -> None:
    with pytest.raises(InputError, match=r"attack\.loss: 'margn' is unknown; did you mean margin\?"):
        planned("attack.loss=margn")


def test_its_content_is_in_the_digest_of_what_it_makes(
    path: Path, tmp_path: Path, local_store: Store
) -> None:
    plan = planned(f"attack.loss={path}:margin")
    (tmp_path / "elsewhere").mkdir()
    path.rename(tmp_path / "elsewhere" / "loss.py")
    moved = planned(f"attack.loss={tmp_path / 'elsewhere' / 'loss.py'}:margin")
    assert moved.report.digest == plan.report.digest
    (tmp_path / "elsewhere" / "loss.py").write_text(FILE + "\n# another one\n")
    changed = planned(f"attack.loss={tmp_path / 'elsewhere' / 'loss.py'}:margin")
    assert {s.kind for s in changed.stages if s.digest not in {o.digest for o in plan.stages}} == {
        *("shard", "dataset", "target_model", "evaluation", "report"),
    }
    assert all(stage.code for stage in plan.stages if stage.kind == "shard")
    compute_all(plan, local_store)
    built_in = planned("attack.loss=margin")
    compute_all(built_in, local_store)
    role = "d_rand/0/dataset"
    success = [
        local_store.manifest(p.report.inputs[role]).metrics["attack_success"] for p in (plan, built_in)
    ]
    assert success[0] == pytest.approx(success[1], abs=0.02)
    assert "loss.py:margin@" in str(local_store.manifest(plan.report.inputs[role]).parameters)


def test_one_recipe_may_have_its_own(path: Path) -> None:
    plan = planned("recipes=[clean, d_rand]", f"only={{d_rand: {{attack: {{loss: '{path}:margin'}}}}}}")
    (shard,) = (stage for stage in plan.stages if stage.kind == "shard")
    assert shard.parameters["attack"]["loss"].startswith("loss.py:margin@")
    assert shard.code
