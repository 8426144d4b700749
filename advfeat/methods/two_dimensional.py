"""Learning from adversarial examples in two dimensions, where one can see it (Wallace 2019).

Random points of the unit square under random labels, a small network that fits them (all 32 in 19 seeds
of 20: in the other, two points of unlike labels nearly coincide), and adversarial examples of it. A new
network that sees these alone, under the flipped labels, agrees with the first one on 74 % of the square,
over 20 seeds (95 % interval 70 to 78 %); where the same points stay unperturbed, on 10 % (8 to 12 %). Of the
points where they were it has 69 % right (64 to 74 %), under labels that it never saw; published: 23 of 32.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from advfeat.attacks import perturb
from advfeat.digest import derived_seed
from advfeat.errors import InputError
from advfeat.models import Normalized, predict
from advfeat.spec import Attack

SIDE = 200
"""The unit square is looked at in the middles of this many cells a side."""

_MEAN, _STD = 0.5, 12**-0.5
"""Of a uniform coordinate in [0, 1]."""


@dataclass(frozen=True)
class TwoDimensional:
    """What one seed gave; classes are int64, 0 or 1, and squares of them are [y, x] over (SIDE, SIDE)."""

    eps: float
    points: NDArray[np.float32]
    """(points, 2): x and y in [0, 1]."""
    labels: NDArray[np.int64]
    """(points,): the random labels, which the source network learns."""
    adversarial: NDArray[np.float32]
    """(points, 2): each point, moved by at most eps in x and in y towards the other label."""
    reached: NDArray[np.bool_]
    """(points,): whether the source gives the adversarial point the flipped label."""
    source_classes: NDArray[np.int64]
    target_classes: NDArray[np.int64]
    control_classes: NDArray[np.int64]
    source_accuracy: float
    """Of the source network on the points under their labels."""
    target_accuracy: float
    """Of the target network on what it learned: the reached adversarial points, flipped labels."""
    points_right: float
    """Of the target network on the points where they were, under their own labels, which it never saw."""

    @property
    def flipped_labels(self) -> NDArray[np.int64]:
        """The labels of the adversarial points, (points,)."""
        return 1 - self.labels

    @property
    def adversarial_success(self) -> float:
        """Share of the points whose adversarial example the source takes for the other class."""
        return float(self.reached.mean())

    @property
    def agreement(self) -> float:
        """Share of the square on which source and target give the same class."""
        return float(np.mean(self.source_classes == self.target_classes))

    @property
    def control_agreement(self) -> float:
        """Share of the square on which source and control give the same class."""
        return float(np.mean(self.source_classes == self.control_classes))


def two_dimensional(
    seed: int, *, points: int, eps: float, steps: int, hidden: int, epochs: int, learning_rate: float
) -> TwoDimensional:
    """Fit random points, attack them, and fit the adversarial examples with a new network.

    The target learns the adversarial points that reached the flipped label, under that label, and
    nothing else. The control differs from it in the perturbation alone: the same points where they
    were, under the same flipped labels, learned from the same initial weights. What the labels say by
    themselves speaks against the source, so agreement above that of the control is due to the
    perturbation, and agreement above one half is more than two unrelated networks have.

    ``points`` are uniform in the unit square; eps is the radius of the l-infinity ball around each, which the
    attack searches in ``steps`` gradient steps. Networks have two hidden layers of ``hidden`` units and learn
    for ``epochs`` steps of Adam, each on all points. The same arguments give the same bits on one machine.
    Raises ``InputError`` if no example reaches the flipped label within eps. (Wallace 2019,
    distill.pub/2019/advex-bugs-discussion/response-6, the two-dimensional figure.)
    """
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(derived_seed(seed, "points"))
    drawn = torch.rand((points, 2), generator=generator)
    labels = torch.randint(0, 2, (points,), generator=generator)
    if labels.min() == labels.max():  # one class alone has no boundary to attack
        labels[0] = 1 - labels[0]
    fit = partial(_fit, hidden=hidden, epochs=epochs, learning_rate=learning_rate)
    source = fit(drawn, labels, derived_seed(seed, "source"))

    attack = Attack(norm="linf", eps=eps, steps=steps, precision="fp32")
    flipped = 1 - labels
    adversarial = perturb(source, _as_images(drawn), flipped, attack).flatten(1)
    reached = torch.from_numpy(_classes(source, adversarial)) == flipped
    if not reached.any():
        raise InputError("eps", eps, "lets no point reach the other class", "give more eps or steps")

    other_weights = derived_seed(seed, "target")
    target = fit(adversarial[reached], flipped[reached], other_weights)
    control = fit(drawn[reached], flipped[reached], other_weights)
    return TwoDimensional(
        eps=eps,
        points=drawn.numpy(),
        labels=labels.numpy(),
        adversarial=adversarial.numpy(),
        reached=reached.numpy(),
        source_classes=_square(source),
        target_classes=_square(target),
        control_classes=_square(control),
        source_accuracy=float(np.mean(_classes(source, drawn) == labels.numpy())),
        target_accuracy=float(np.mean(_classes(target, adversarial[reached]) == flipped[reached].numpy())),
        points_right=float(np.mean(_classes(target, drawn) == labels.numpy())),
    )


def _fit(
    points: Tensor, labels: Tensor, seed: int, *, hidden: int, epochs: int, learning_rate: float
) -> Normalized:
    """Train a fresh network on all points at once."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2),
        )
    model = Normalized(network, channels=2)
    model.set_statistics(torch.full((2,), _MEAN), torch.full((2,), _STD))
    images = _as_images(points)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    for _ in range(epochs):
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.eval()


def _as_images(points: Tensor) -> Tensor:
    """Return points (N, 2) as images of one pixel with two channels, which attacks and networks take."""
    return points[:, :, None, None]


def _classes(model: Normalized, points: Tensor) -> NDArray[np.int64]:
    return predict(model, _as_images(points))


def _square(model: Normalized) -> NDArray[np.int64]:
    middles = (torch.arange(SIDE) + 0.5) / SIDE
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    return _classes(model, torch.stack([x.flatten(), y.flatten()], dim=1)).reshape(SIDE, SIDE)
