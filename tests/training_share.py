"""What each of several processes does that train one network; it imports little, as each starts anew."""

from pathlib import Path

import torch
from torch import distributed

from advfeat import data
from advfeat.spec import DataSpec, TrainSpec
from advfeat.training import TrainingSet, fit

IMAGES = 201  # the last batch of 64 has 9, of which one worker takes 5 and the other 4
# No batch norm, which sees a share at a time: everything else is the same sum in another order.
ALONE = TrainSpec(
    model="mlp", width=8, epochs=3, augmentation="flip-crop", ema_decay=0.9, label_smoothing=0.1
)
TOGETHER = ALONE.model_copy(update={"workers": 2})


class File:
    """A checkpoint in a file, kept once at the end."""

    seconds_between = 1e9

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> bytes | None:
        return self.path.read_bytes() if self.path.exists() else None

    def save(self, content: bytes) -> None:
        self.path.write_bytes(content)


def digits() -> TrainingSet:
    train = data.load(DataSpec(source="digits")).train
    return TrainingSet.in_memory(
        torch.from_numpy(train.images[:IMAGES]), torch.from_numpy(train.labels[:IMAGES])
    )


def train_a_share(rank: int, folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    trained = fit(digits(), TOGETHER, classes=10, seed=0, checkpoint=File(folder / "checkpoint"))
    torch.save(trained.state_dict(), folder / f"weights{rank}")
    distributed.destroy_process_group()
