"""Training of a network: one loop, with what it reads, how it varies images, and states to go on from."""

from advfeat.training.fitting import fit, mean_and_std, shape_arguments
from advfeat.training.windows import Parts, TrainingSet, Window

__all__ = ["Parts", "TrainingSet", "Window", "fit", "mean_and_std", "shape_arguments"]
