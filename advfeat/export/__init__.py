"""Data sets as products: from the store into the formats that training code reads, each with its card."""

from advfeat.export.exporting import export
from advfeat.export.formats import FORMATS

__all__ = ["FORMATS", "export"]
