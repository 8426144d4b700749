"""How many images go through a network at once."""

import torch
from torch import Tensor

ROW_MULTIPLE = 16
"""On a CPU batches are filled up to a multiple of this: products of few rows round in another way."""


def fill_up(batch: Tensor, rows: int) -> Tensor:
    """Repeat the last row of a batch until it has ``rows`` rows."""
    return torch.cat([batch, batch[-1:].expand(rows - len(batch), *batch.shape[1:])])
