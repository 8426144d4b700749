"""The same attack in other libraries, each called as its documentation tells a user to.

Targeted projected gradient descent within an L2 or Linf ball and [0, 1], without a random start:

- torchattacks: ``PGDL2`` or ``PGD``, targeted by label;
- foolbox: ``L2ProjectedGradientDescentAttack`` or its Linf twin under ``TargetedMisclassification``;
- adversarial-robustness-toolbox: ``ProjectedGradientDescentPyTorch`` on a ``PyTorchClassifier``, which
  takes and returns NumPy arrays;
- robustness: ``Attacker``, which moves a tensor to the GPU even where there is none; without a GPU
  that one call is made to return the tensor itself.

foolbox and the toolbox compute the weights' gradients along with the images' where the user has not
frozen the weights, which their documentation does not ask for; so they do here.
"""

import importlib
import warnings
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

_ART_PGD = "art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_pytorch"

BallNorm = Literal["l2", "linf"]
"""The norms that all peers know."""


@dataclass(frozen=True)
class Descent:
    """Norm and radius of the ball, length and number of the steps."""

    norm: BallNorm
    eps: float
    step_size: float
    steps: int


class PeerAttack(Protocol):
    """Moves images (N, C, H, W) in [0, 1] towards target classes (N,) and returns them."""

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        targets: Tensor,
        descent: Descent,
    ) -> Tensor:
        """Return the adversarial examples."""


def torchattacks(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    descent: Descent,
) -> Tensor:
    """Attack with torchattacks."""
    library: Any = importlib.import_module("torchattacks")
    kind = library.PGDL2 if descent.norm == "l2" else library.PGD
    attack = kind(model, eps=descent.eps, alpha=descent.step_size, steps=descent.steps, random_start=False)
    attack.set_mode_targeted_by_label(quiet=True)
    adversarial: Tensor = attack(images, targets)
    return adversarial


def foolbox(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    descent: Descent,
) -> Tensor:
    """Attack with foolbox."""
    library: Any = importlib.import_module("foolbox")
    name = (
        "L2ProjectedGradientDescentAttack" if descent.norm == "l2" else "LinfProjectedGradientDescentAttack"
    )
    kind = getattr(library.attacks, name)
    attack = kind(abs_stepsize=descent.step_size, steps=descent.steps, random_start=False)
    wrapped = library.PyTorchModel(model, bounds=(0, 1), device=images.device)
    adversarial: Tensor
    _, adversarial, _ = attack(
        wrapped, images, library.criteria.TargetedMisclassification(targets), epsilons=descent.eps
    )
    return adversarial


def toolbox(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    descent: Descent,
) -> Tensor:
    """Attack with the adversarial-robustness-toolbox."""
    evasion: Any = importlib.import_module(_ART_PGD)
    estimators: Any = importlib.import_module("art.estimators.classification")
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    classifier = estimators.PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(images.shape[1:]),
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type="gpu" if images.is_cuda else "cpu",
    )
    attack = evasion.ProjectedGradientDescentPyTorch(
        classifier,
        norm=2 if descent.norm == "l2" else np.inf,
        eps=descent.eps,
        eps_step=descent.step_size,
        max_iter=descent.steps,
        targeted=True,
        batch_size=len(images),
        verbose=False,
    )
    return torch.from_numpy(attack.generate(x=images.cpu().numpy(), y=targets.cpu().numpy()))


def robustness(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    descent: Descent,
) -> Tensor:
    """Attack with MadryLab's robustness."""
    attacker: Any = importlib.import_module("robustness.attacker")
    plain = SimpleNamespace(mean=torch.zeros(images.shape[1]), std=torch.ones(images.shape[1]))
    centre: Any = images.detach().clone()
    if not images.is_cuda:
        centre.cuda = lambda: centre
    adversarial: Tensor = attacker.Attacker(model, plain).to(images.device)(
        images,
        targets,
        constraint="2" if descent.norm == "l2" else "inf",
        eps=descent.eps,
        step_size=descent.step_size,
        iterations=descent.steps,
        targeted=True,
        should_normalize=False,  # the networks do it themselves
        orig_input=centre,
        use_best=False,
    )
    return adversarial


@dataclass(frozen=True)
class Peer:
    """A library: what is imported of it, and its attack."""

    modules: tuple[str, ...]
    attack: PeerAttack

    def load(self) -> None:
        """Import the library, so that no measured call has to."""
        with warnings.catch_warnings(action="ignore"):
            for module in self.modules:
                importlib.import_module(module)


PEERS: dict[str, Peer] = {
    "torchattacks": Peer(("torchattacks",), torchattacks),
    "foolbox": Peer(("foolbox",), foolbox),
    "adversarial-robustness-toolbox": Peer((_ART_PGD, "art.estimators.classification"), toolbox),
    "robustness": Peer(("robustness.attacker",), robustness),
}
"""The peers by the names of their distributions."""
