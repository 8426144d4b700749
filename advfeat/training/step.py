"""One step of a training: a batch's loss, its gradients, and what they do to the weights."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.sgd import sgd
from torch.optim.swa_utils import AveragedModel

from advfeat.models import Normalized


class TrainingStep:
    """Changes a network, its optimizer's momentum and the moving average of its weights.

    ``network`` stands for ``model`` in batches of ``batch_size`` images: it computes the same, faster, or
    among several ``workers`` it shares the gradients, then in every batch.
    """

    def __init__(
        self,
        model: Normalized,
        network: Callable[[Tensor], Tensor],
        optimizer: torch.optim.SGD,
        average: AveragedModel | None,
        *,
        precision: Literal["bf16", "fp32"],
        label_smoothing: float,
        batch_size: int,
        workers: int,
        where: torch.device,
    ) -> None:
        self.model, self.optimizer, self.average = model, optimizer, average
        self.batch_size = batch_size
        self.total_loss = torch.zeros((), device=where)
        """The sum of all images' losses since somebody set it to zero, float32."""
        self._network, self._workers = network, workers
        self._precision, self._label_smoothing, self._device_type = precision, label_smoothing, where.type

    def take(self, pixels: Tensor, labels: Tensor, size: int) -> None:
        """Learn from a batch of ``size`` images, or from this worker's share of it.

        ``pixels`` are float32 (n, C, H, W) in [0, 1], ``labels`` int64 (n,) or float32 (n, classes).
        """
        # A last, smaller batch is not worth a compilation of its own; workers need their wrapper.
        whole = size == self.batch_size or self._workers > 1
        self._find_gradients(self._network if whole else self.model, pixels, labels, size)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def take_on_device(self, pixels: Tensor, labels: Tensor, rate: Tensor) -> None:
        """Learn from a whole batch by kernels alone, which may be launched again for other values.

        The learning rate is a float32 tensor () that lies with the weights. Some step must have been taken:
        momentum and average have begun. Who launches it again counts the average's steps.
        """
        self._find_gradients(self.model, pixels, labels, len(labels))
        _descend(self.optimizer, rate)
        if self.average is not None:
            _blend(self.average, self.model)

    @property
    def has_begun(self) -> bool:
        """Whether momentum and average have values, which the first step gives them."""
        moves = any(group["momentum"] for group in self.optimizer.param_groups)
        averaged = self.average is None or bool(self.average.n_averaged)
        return averaged and (not moves or bool(self.optimizer.state))

    def tensors(self) -> dict[str, list[Tensor]]:
        """Return all tensors that a step changes, by what they are."""
        of_modules = [value for part in self.model.modules() for value in vars(part).values()]
        buffers = [*self.model.buffers(), *(value for value in of_modules if isinstance(value, Tensor))]
        momentum = [state.get("momentum_buffer") for state in self.optimizer.state.values()]
        averaged = [] if self.average is None else _weights_and_buffers(self.average.module)
        return {
            "weights": list(self.model.parameters()),
            "buffers": buffers,
            "momentum": [each for each in momentum if each is not None],
            "average": averaged,
            "loss": [self.total_loss],
        }

    def _find_gradients(
        self, network: Callable[[Tensor], Tensor], pixels: Tensor, labels: Tensor, size: int
    ) -> None:
        with torch.autocast(self._device_type, torch.bfloat16, enabled=self._precision == "bf16"):
            logits = network(pixels)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self._label_smoothing)
        loss = loss * (self._workers * len(labels) / size)  # gradients are averaged over workers
        self.total_loss += loss.detach() * (size / self._workers)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()


@torch.no_grad()
def _descend(optimizer: torch.optim.SGD, rate: Tensor) -> None:
    """Take the optimizer's step at a rate that kernels read: its own reads the rate from Python."""
    for group in optimizer.param_groups:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        sgd(
            weights,
            [_laid_out_as(weight, weight.grad) for weight in weights],
            [optimizer.state.get(weight, {}).get("momentum_buffer") for weight in weights],
            fused=True,
            foreach=False,
            lr=rate,
            **{
                name: group[name]
                for name in ("weight_decay", "momentum", "dampening", "nesterov", "maximize")
            },
        )


def _laid_out_as(weight: Tensor, other: Tensor) -> Tensor:
    """Return a tensor with a weight's strides, as the fused kernel wants them."""
    return other if other.stride() == weight.stride() else torch.empty_like(weight).copy_(other)


def align_momentum(optimizer: torch.optim.SGD) -> None:
    """Give momentum the strides of its weight: what comes from a checkpoint is contiguous."""
    for weight, state in optimizer.state.items():
        if (momentum := state.get("momentum_buffer")) is not None:
            state["momentum_buffer"] = _laid_out_as(weight, momentum)


def _blend(average: AveragedModel, model: Normalized) -> None:
    """Move the average as its own ``update_parameters`` does, which asks how many steps there were."""
    assert average.multi_avg_fn is not None
    both = zip(_weights_and_buffers(average.module), _weights_and_buffers(model), strict=True)
    pairs = [(mean.detach(), latest.detach()) for mean, latest in both]
    for dtype in dict.fromkeys(mean.dtype for mean, _ in pairs):
        of_type = [pair for pair in pairs if pair[0].dtype == dtype]
        means, latest = ([pair[side] for pair in of_type] for side in (0, 1))
        average.multi_avg_fn(means, latest, average.n_averaged)


def _weights_and_buffers(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
