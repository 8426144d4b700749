"""Networks as people have them: what is attacked is the model's own function, or one line says why not."""

import copy
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint
from torchvision import tv_tensors

from advfeat.attacks import REFERENCE, Engine, perturb, plainly
from advfeat.attacks.prepared import prepared
from advfeat.attacks.user_model import logits_of
from advfeat.errors import InputError
from advfeat.evaluation import autoattack_accuracy
from advfeat.spec import Attack, Norm, StepSchedule

FOLDED, BF16 = Engine(optimized=True), Engine("bf16", optimized=True)


def small(name: str) -> nn.Module:
    """Build a network of a family of torchvision, as small as the family has it."""
    models, ten = torchvision.models, {"num_classes": 10}
    made: dict[str, Callable[[], nn.Module]] = {
        "resnet": lambda: models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], **ten),
        "resnext": lambda: models.ResNet(
            models.resnet.Bottleneck, [1, 1, 1, 1], groups=8, width_per_group=8, **ten
        ),
        "densenet": lambda: models.DenseNet(8, (2, 2, 2, 2), 16, **ten),
        "swin": lambda: models.SwinTransformer([4, 4], 24, [2, 2], [2, 2], [4, 4], **ten),
        "vision transformer": lambda: models.VisionTransformer(64, 16, 2, 2, 32, 64, **ten),
        "googlenet": lambda: models.googlenet(aux_logits=False, init_weights=False, **ten),
    }
    return made[name]() if name in made else models.get_model(name, **ten)


FAMILIES = (
    *("resnet", "resnext", "densenet", "swin", "vision transformer", "googlenet", "efficientnet_b0"),
    *("mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "shufflenet_v2_x0_5"),
    "squeezenet1_1",
)


def stirred(model: nn.Module) -> nn.Module:
    """Give batch norms statistics that are not the initial ones; return the model in evaluation mode."""
    torch.manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    model.eval()
    return model


class Of(nn.Module):
    """A network of a convolution, a batch norm and a linear layer that each subclass uses in its own way."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.conv = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.other, self.last = nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.Linear(8, 5)

    def features(self, images: Tensor) -> Tensor:
        found: Tensor = self.norm(self.conv(self.stem(images))).relu()
        return found

    def forward(self, images: Tensor) -> Any:
        return self.last(self.features(images).mean((2, 3)))


class SharedConvolution(Of):
    def features(self, images: Tensor) -> Tensor:
        first = self.norm(self.conv(self.stem(images))).relu()
        return torch.relu(self.other(self.conv(first)))


class SharedNorm(Of):
    def features(self, images: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(self.norm(self.stem(images)))))


class ModuleInForward(Of):
    def features(self, images: Tensor) -> Tensor:
        found: Tensor = nn.ReLU()(self.norm(self.conv(self.stem(images))))
        return found


class LooksAtItsInput(Of):
    """As transforms do that let pass what is not a tensor."""

    def features(self, images: Tensor) -> Tensor:
        return super().features((images - 0.5) / 0.1 if isinstance(images, Tensor) else images)


class Branches(Of):
    def features(self, images: Tensor) -> Tensor:
        return super().features(images * (2 if images.mean() > 0.2 else 1))


class Weights(Of):
    """It multiplies by a layer's weights itself."""

    def features(self, images: Tensor) -> Tensor:
        return F.relu(self.norm(F.conv2d(self.stem(images), self.conv.weight.flip(2), padding=1)))


class Keeps(Of):
    """It keeps its activations, which no copy can have."""

    def features(self, images: Tensor) -> Tensor:
        self.kept = super().features(images)
        return self.kept


class Typed(Of):
    """Its state holds more than tensors, as those of quantized layers do."""

    def get_extra_state(self) -> torch.dtype:
        return torch.float32

    def set_extra_state(self, state: torch.dtype) -> None:
        assert state == torch.float32


class Flattens(nn.Module):
    """It views its images as rows, which only the usual order in memory allows."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(768, 5)

    def forward(self, images: Tensor) -> Any:
        return self.last(images.view(len(images), -1))


class Watches(Of):
    """It asks for gradients in its forward, as what explains predictions does."""

    def features(self, images: Tensor) -> Tensor:
        found = super().features(images)
        found.register_hook(lambda gradient: 2 * gradient)
        found.retain_grad()
        return found


class StraightThrough(Of):
    """It rounds its images, and passes gradients by the rounding."""

    class Rounding(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, images: Tensor) -> Tensor:
            return (images * 16).round() / 16

        @staticmethod
        def backward(_: Any, gradient: Tensor) -> Tensor:
            return gradient

    def features(self, images: Tensor) -> Tensor:
        return super().features(self.Rounding.apply(images))


class SharesWithCopies(Of):
    def __deepcopy__(self, memo: dict[int, Any]) -> "SharesWithCopies":
        return self


class HasItsOwnTrain(Of):
    """Its train returns nothing, as a quick override does."""

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)


class Counts(Of):
    """It counts its calls, and keeps statistics of its images in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def features(self, images: Tensor) -> Tensor:
        self.calls = self.calls + 1
        F.batch_norm(
            self.stem(images).detach(), self.other.running_mean, self.other.running_var, training=True
        )
        return super().features(images)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows, self.last = nn.LSTM(48, 8, batch_first=True), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Any:
        return self.last(self.rows(images.transpose(1, 2).flatten(2))[0][:, -1])


class Locked(Of):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def hooked(kind: str, of: str) -> nn.Module:
    model = Of()
    module = model if of == "model" else model.get_submodule(of)
    if kind == "forward":
        module.register_forward_hook(lambda _, __, out: out * 3 + 1)
    elif kind == "before":
        module.register_forward_pre_hook(lambda _, given: (given[0] * 3 + 1,))
    else:
        module.register_full_backward_hook(lambda _, inward, __: (-3 * inward[0],))  # type: ignore[index]
    return model


def normed(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    model = Of()
    model.conv = norm(model.conv)  # type: ignore[assignment]
    return model


def in_a_sequence() -> nn.Module:
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), nn.Flatten(), nn.Linear(1568, 5)
    )
    model[0].register_forward_hook(lambda _, __, out: out.flip(1))
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": Of,
    "shared convolution": SharedConvolution,
    "shared norm": SharedNorm,
    "module in forward": ModuleInForward,
    "looks at its input": LooksAtItsInput,
    "branches": Branches,
    "weights": Weights,
    "keeps": Keeps,
    "locked": Locked,
    "old spectral norm": lambda: normed(spectral_norm),
    "old weight norm": lambda: normed(weight_norm),
    "spectral norm": lambda: normed(parametrizations.spectral_norm),
    "weight norm": lambda: normed(parametrizations.weight_norm),
    "orthogonal": lambda: normed(parametrizations.orthogonal),
    "sequence": in_a_sequence,
    **{
        f"{kind} hook of {of}": lambda kind=kind, of=of: hooked(kind, of)  # type: ignore[misc]
        for kind in ("forward", "before", "backward")
        for of in ("model", "stem", "conv", "norm")
    },
    "keeps a type in its state": Typed,
    "flattens": Flattens,
    "watches": Watches,
    "straight through": StraightThrough,
    "shares with copies": SharesWithCopies,
    "has its own train": HasItsOwnTrain,
    "counts": Counts,
    "recurrent": Recurrent,
    "masks a class": lambda: Returns(lambda logits: logits.index_fill(1, torch.tensor(4), -1e30)),
    "frozen": lambda: torch.jit.freeze(torch.jit.trace(Of().eval(), torch.rand(2, 3, 16, 16))),
    "traced": lambda: torch.jit.trace(Of().eval(), torch.rand(2, 3, 16, 16)),
}


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def gradient(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    pixels = images.clone().requires_grad_()
    with torch.enable_grad():
        logits = network(pixels)
        (found,) = torch.autograd.grad((logits * torch.linspace(-1, 1, logits.shape[1])).sum(), pixels)
    return logits.detach(), found


def cosine(first: Tensor, second: Tensor) -> float:
    """Return the cosine between two tensors; one where both are zero."""
    first, second = first.flatten().double(), second.flatten().double()
    lengths = first.norm() * second.norm()
    return float(first @ second / lengths) if lengths else float(torch.equal(first, second))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("engine", [FOLDED, BF16], ids=["folded", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_attacked_is_the_models_own_function(name: str, engine: Engine, images: Tensor) -> None:
    model = stirred(MODELS[name]())
    exact = gradient(model, images)
    with plainly(model):
        network, chosen = prepared(model, engine, images)
        found = gradient(network, images.contiguous(memory_format=chosen.layout))
    close = 0.1 if chosen.precision == "bf16" else 1e-3
    for ours, theirs in zip(found, exact, strict=True):
        assert cosine(ours, theirs) > 1 - close
        assert (ours - theirs).norm() <= 3 * close * theirs.norm()


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_families_of_torchvision_are_attacked_fast_without_a_warning(name: str) -> None:
    torch.manual_seed(0)
    model, images = stirred(small(name)), torch.rand(4, 3, 64, 64)
    exact = gradient(model, images)
    with plainly(model), warnings.catch_warnings(action="error"):
        network, chosen = prepared(model, FOLDED, images)
        found = gradient(network, images)
    assert chosen == FOLDED
    assert cosine(found[1], exact[1]) > 0.99


@pytest.mark.parametrize("name", ["shared convolution", "module in forward", "looks at its input"])
def test_the_default_is_as_strong_as_fp32_and_says_what_it_cannot_do(name: str, images: Tensor) -> None:
    model, labels = stirred(MODELS[name]()), torch.arange(16) % 5
    with pytest.warns(UserWarning, match=r"with batch norms folded, it .*; it is attacked in fp32$"):
        found = perturb(model, images, labels, Attack(eps=1, steps=5), engine=FOLDED)
    plain = perturb(model, images, labels, Attack(eps=1, steps=5, precision="fp32"))
    assert torch.allclose(found, plain, atol=1e-4)


def test_the_model_is_left_as_it_was(images: Tensor) -> None:
    for name in (
        "keeps",
        "locked",
        "old spectral norm",
        "backward hook of model",
        "keeps a type in its state",
        "counts",
        "shares with copies",
        "has its own train",
    ):
        model = MODELS[name]()
        model.train()
        model.get_submodule("norm").eval()
        model.get_parameter("last.bias").requires_grad_(False)
        before = {name: tensor.clone() for name, tensor in tensors(model).items()}
        modes = [module.training for module in model.modules()]
        perturb(model, images, torch.arange(16) % 5, Attack(eps=1, steps=2))
        assert [module.training for module in model.modules()] == modes
        assert [p.requires_grad for p in model.parameters()].count(False) == 1
        assert all(torch.equal(before[name], tensor) for name, tensor in tensors(model).items())
        assert all(parameter.grad is None for parameter in model.parameters())


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


class Returns(Of):
    """It returns its logits in a form of its own."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.form = form

    def forward(self, images: Tensor) -> Any:
        return self.form(super().forward(images))


class Anew(Of):
    """It has a gradient, but not that of its images."""

    def forward(self, images: Tensor) -> Any:
        return super().forward(images.detach().requires_grad_())


class Checkpoints(Of):
    def features(self, images: Tensor) -> Tensor:
        found: Tensor = checkpoint(super().features, images, use_reentrant=True)
        return found


class Overwrites(Of):
    def features(self, images: Tensor) -> Tensor:
        return super().features(images.sub_(0.5))


def quantized() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 5)).eval()
    with warnings.catch_warnings(action="ignore"):
        found: nn.Module = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    return found


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (Returns(lambda logits: (logits, logits)), r"returns a tuple, .* model\(images\)\[0\]"),
        (Returns(lambda logits: {"logits": logits}), r"returns a dict, .*\['logits'\]"),
        (Returns(lambda logits: logits[:, 0]), r"returns float32 \(16,\) for 16 images, .*stack"),
        (Returns(lambda logits: logits[:, :, None, None]), r"float32 \(16, 5, 1, 1\)"),
        (Returns(lambda logits: logits.mean(0, keepdim=True)), r"float32 \(1, 5\) for 16 images"),
        (Returns(lambda logits: logits.argmax(1, keepdim=True)), r"returns int64 \(16, 1\)"),
        (Returns(lambda logits: logits.softmax(1)), "returns probabilities, .*softmax"),
        (Returns(lambda logits: logits / 0), "returns NaN or infinity"),
        (Returns(lambda logits: logits.detach()), "passes no gradient on"),
        (Returns(lambda logits: logits.numpy()), "returns a ndarray|fails on float32 images"),
        (Returns(lambda logits: {"out": logits}), r"returns a dict, .*model\(images\)\['out'\]"),
        (Returns(lambda logits: logits.bfloat16().softmax(1)), "returns probabilities, .*softmax"),
        (Anew(), "passes no gradient on"),
        (Checkpoints(), r"cannot be differentiated \(.*use_reentrant"),
        (Overwrites(), r"fails on float32 images .*in-place"),
        (quantized(), r"passes no gradient on .*quantize"),
        (Of().double(), r"has float64 weights .*model\.float\(\)"),
        (Of().half(), r"has float16 weights .*model\.float\(\)"),
        (Of().to("meta"), "has no weights"),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(5)), "has no weights yet"),
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 5)), r"fails on float32 images \(16, 3, 16, 16\)"),
        (lambda images: images, r"is not a torch\.nn\.Module"),
    ],
)
def test_what_is_no_model_of_logits_is_refused_in_a_line(model: Any, problem: str, images: Tensor) -> None:
    for precision in ("fp32", "auto"):
        with pytest.raises(InputError, match=f"^model: .*{problem}") as refused:
            perturb(model, images, torch.zeros(16).long(), Attack(eps=1, steps=2, precision=precision))
        assert "\n" not in str(refused.value)


def test_log_probabilities_are_logits(images: Tensor) -> None:
    model, labels = Returns(lambda logits: logits.log_softmax(1)), torch.arange(16) % 5
    attack = Attack(eps=1, steps=3, precision="fp32")
    assert torch.allclose(
        perturb(model, images, labels, attack), perturb(Of(), images, labels, attack), atol=1e-5
    )


def test_callers_in_any_mode_get_the_same_examples(images: Tensor) -> None:
    model, labels, attack = stirred(Of()), torch.arange(16) % 5, Attack(eps=1, steps=3)
    wanted = perturb(model, images, labels, attack)
    with torch.inference_mode():
        assert torch.equal(perturb(model, images * 1, labels * 1, attack), wanted)
        assert torch.equal(perturb(copy.deepcopy(model), images, labels, attack), wanted)
    with torch.no_grad():
        assert torch.equal(perturb(model, images.numpy(), labels.tolist(), attack), wanted)
    in_double = images.numpy().astype(np.float64)
    assert torch.equal(perturb(model, in_double, labels.numpy().astype(np.int32), attack), wanted)
    with pytest.raises(InputError, match="images: 'str' is not a tensor"):
        perturb(model, "pictures", labels, attack)


@pytest.mark.parametrize(
    "given",
    [
        lambda images: images.numpy()[::-1].copy()[::-1],
        lambda images: images.numpy().astype(">f4"),
        lambda images: np.broadcast_to(images.numpy(), images.shape),  # read-only
        lambda images: list(images),
        lambda images: list(images.numpy()),
        lambda images: images.transpose(1, 3).contiguous().transpose(1, 3),
        lambda images: nn.Parameter(images),
        lambda images: tv_tensors.Image(images),
    ],
)
def test_images_are_read_however_they_lie_in_memory(given: Callable[[Tensor], Any], images: Tensor) -> None:
    model, labels, attack = stirred(Of()), torch.arange(16) % 5, Attack(eps=1, steps=2)
    with warnings.catch_warnings(action="error"):
        found = perturb(model, given(images), labels, attack)
    assert torch.equal(found, perturb(model, images, labels, attack))
    assert not found.requires_grad


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (lambda images, labels: (images.double(), labels), r"float64 .*images\.float\(\)"),
        (lambda images, labels: (images.to_sparse(), labels), "images: 'sparse_coo tensor' does not hold"),
        (lambda images, labels: (images, labels.to("meta")), "labels: 'meta tensor' does not hold"),
        (lambda images, labels: (images, labels.to(torch.complex64)), "labels: .*is not one integer"),
        (lambda images, labels: (images, F.one_hot(labels, 5)), "labels: .*is not one integer"),
    ],
)
def test_what_is_no_image_or_label_is_refused_in_a_line(
    changed: Callable[[Tensor, Tensor], Any], problem: str, images: Tensor
) -> None:
    pixels, classes = changed(images, torch.arange(16) % 5)
    with pytest.raises(InputError, match=problem):
        perturb(Of(), pixels, classes, Attack(eps=1, steps=2))
    with pytest.raises(InputError, match="rows: 2 are not one for each of the 16 images"):
        perturb(Of(), images, torch.arange(16) % 5, Attack(eps=1, steps=2), rows=[0, 1])


def test_torchs_defaults_change_nothing(images: Tensor) -> None:
    model, labels = stirred(Of()), torch.arange(16) % 5
    attacks = [Attack(norm=norm, eps=1, steps=2, random_start=True) for norm in ("l2", "linf", "l1", "l0")]
    wanted = [perturb(model, images, labels, attack) for attack in attacks]
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        found = [perturb(copy.deepcopy(model), images, labels, attack) for attack in attacks]
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))


class Rounds(Of):
    def features(self, images: Tensor) -> Tensor:
        return super().features((images * 255).round() / 255)


class Saturated(Of):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images) * 1e6


@pytest.mark.parametrize(
    ("model", "attack", "cause"),
    [
        (Rounds(), Attack(eps=1, steps=2), "does it round, threshold or detach its input"),
        (Saturated(), Attack(eps=1, steps=2, targeted=False), "gradient of cross-entropy is zero"),
        (Of(), Attack(eps=1e-7, steps=2), "less than float32 pixels"),
        (Of(), Attack(eps=1, steps=2, stop_confidence=1e-6), "all reach the confidence"),
    ],
)
def test_an_attack_that_moves_nothing_names_the_likely_cause(
    model: nn.Module, attack: Attack, cause: str, images: Tensor
) -> None:
    with plainly(model):
        labels = logits_of(model, images).argmax(1)
    with pytest.warns(UserWarning, match="no image moved: .*") as told:
        perturb(model, images, labels, attack)
    (warning,) = [str(one.message) for one in told if "no image moved" in str(one.message)]
    assert cause in warning


@pytest.mark.parametrize("norm", ["l2", "linf", "l1", "l0"])
def test_random_starts_are_no_motion(norm: Norm, images: Tensor) -> None:
    attack = Attack(norm=norm, eps=1, steps=2, random_start=True, restarts=2)
    with pytest.warns(UserWarning, match="no image moved: .* does it round"):
        perturb(Rounds(), images, torch.arange(16) % 5, attack)


class Deviation(Of):
    """The root of a variance, whose gradient at zero is not a number."""

    def features(self, images: Tensor) -> Tensor:
        return super().features(images / (1 + images.var((2, 3), keepdim=True).sqrt()))


@pytest.mark.parametrize("schedule", get_args(StepSchedule))
def test_images_whose_gradient_is_nan_are_counted(images: Tensor, schedule: StepSchedule) -> None:
    images = images.clone()
    images[3:5] = 0.5
    attack = Attack(eps=1, steps=5, schedule=schedule)
    with pytest.warns(UserWarning, match="2 of 16 images stay as they are: .* NaN"):
        found = perturb(Deviation(), images, torch.arange(16) % 5, attack)
    assert [one for one in range(16) if torch.equal(found[one], images[one])] == [3, 4]


class Noisy(Of):
    def features(self, images: Tensor) -> Tensor:
        return super().features(images + 0.1 * torch.randn_like(images))


class NoisyByNumpy(Of):
    def features(self, images: Tensor) -> Tensor:
        return super().features(images * (1 + float(np.random.default_rng().random())))


class Drops(Of):
    def forward(self, images: Tensor) -> Any:
        return F.dropout(super().forward(images))


class NormsByTheBatch(Of):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8, track_running_stats=False)


class Centres(Of):
    def features(self, images: Tensor) -> Tensor:
        return super().features(images - images.mean(0))


@pytest.mark.parametrize("engine", [REFERENCE, FOLDED], ids=["fp32", "folded"])
@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (Noisy(), "asked again"),
        (NoisyByNumpy(), "asked again"),
        (Drops(), "asked again"),
        (NormsByTheBatch(), "the rest of the batch"),
        (Centres(), "the rest of the batch"),
    ],
)
def test_a_model_that_is_no_function_of_an_image_is_told(
    model: nn.Module, problem: str, engine: Engine, images: Tensor
) -> None:
    state = torch.get_rng_state()
    told = f"logits .*{problem}.*; it is attacked as it is, in fp32$"
    with pytest.warns(UserWarning, match=told), plainly(model):
        network, chosen = prepared(model, engine, images)
    assert network is model
    assert chosen.is_plain
    assert torch.equal(torch.get_rng_state(), state)


def test_what_fills_the_range_of_probabilities_is_told(images: Tensor) -> None:
    model = Returns(lambda logits: (100 * logits).sigmoid())
    with pytest.warns(UserWarning, match="as after a sigmoid"), plainly(model):
        prepared(model, REFERENCE, images)


def test_small_changes_of_a_hook_do_not_hide_in_what_bf16_rounds(images: Tensor) -> None:
    model = stirred(Of())
    model.get_submodule("conv").register_forward_hook(lambda _, __, out: out * 1.05)
    with plainly(model):
        _, chosen = prepared(model, BF16, images)
    assert not chosen.folded


def test_a_model_that_calls_another_forward_is_prepared_anew(images: Tensor) -> None:
    model, labels, attack = stirred(Of()), torch.arange(16) % 5, Attack(eps=1, steps=2)
    perturb(model, images, labels, attack)
    forward = model.forward
    model.forward = lambda images: forward(nn.Hardtanh()(3 * images))
    found = perturb(model, images, labels, attack)
    assert torch.allclose(found, perturb(model, images, labels, attack, engine=REFERENCE), atol=1e-5)


class Exported(Of):
    """What ``torch.export`` makes refuses to change its mode, in these words."""

    def train(self, mode: bool = True) -> "Exported":
        raise NotImplementedError("Calling train() is not supported yet.")


def test_what_keeps_its_mode_is_attacked_in_it(images: Tensor) -> None:
    model, labels, attack = Exported(), torch.arange(16) % 5, Attack(eps=1, steps=2)
    with pytest.warns(UserWarning, match="the rest of the batch"):  # it was made in training mode
        perturb(model, images, labels, attack)
    model.training = model.norm.training = False
    found = perturb(model, images, labels, attack)
    assert torch.allclose(found, perturb(Of().eval(), images, labels, attack), atol=1e-5)
    assert model.stem.training


def test_one_score_is_told_to_be_no_two_classes(images: Tensor) -> None:
    model = Returns(lambda logits: logits[:, :1])
    with pytest.raises(InputError, match=r"1 is not a class of a model that has 1; .*stack"):
        perturb(model, images, torch.arange(16) % 2, Attack(eps=1, steps=1))
    with pytest.warns(UserWarning, match="it returns one score"):
        perturb(model, images, torch.zeros(16).long(), Attack(eps=1, steps=1))


def test_autoattack_takes_the_models_that_pgd_takes(images: Tensor) -> None:
    pytest.importorskip("pyautoattack", reason="the extra autoattack is not installed")
    model = stirred(Keeps()).train()
    with torch.no_grad():
        wrong = (logits_of(copy.deepcopy(model).eval(), images).argmax(1) + 1) % 5
    assert autoattack_accuracy(model, images, wrong.numpy(), "l2", 1, 0) == 0
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    for form in (lambda logits: (logits, logits), lambda logits: logits.detach()):
        with pytest.raises(InputError, match="model: "):
            autoattack_accuracy(Returns(form), images, wrong.numpy(), "l2", 1, 0)
