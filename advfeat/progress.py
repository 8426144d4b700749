"""How long work says how far it is: it calls a function, and knows nothing of who listens."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with how many images are done and how many there are."""
