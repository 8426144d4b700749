"""advfeat: experiments on learning from errors, as distributed workflows."""

__version__ = "0.1.0"
