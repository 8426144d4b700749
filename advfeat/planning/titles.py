"""Titles of stages, of which many differ in the numbers of a seed and a shard alone."""

import re

NUMBER = re.compile(r"\b(seed|shard) (\d+)(?: of \d+)?")
"""Where such a number stands: its word, and the number."""


def unnumbered(title: str) -> str:
    """Return a title without the numbers of seed and shard."""
    return NUMBER.sub(r"\1", title)
