"""advfeat: experiments on learning from errors, as distributed workflows.

``run``, ``grid``, ``reproduce``, ``plan``, ``track`` and ``store`` do what the command line does, from a
script, a notebook or an asyncio program (there: ``await asyncio.to_thread(advfeat.run, "digits")``).
"""

TYPE_CHECKING = False  # typing's, which a module of the user's may stand in for until ``start`` has begun
if TYPE_CHECKING:
    from typing import Any

    from advfeat.flows.python_api import grid, plan, reproduce, run, store, track

__version__ = "0.1.0"
__all__ = ["grid", "plan", "reproduce", "run", "store", "track"]


def __getattr__(name: str) -> "Any":
    """Import what computes when it is first asked for: ``import advfeat`` alone is quick."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from advfeat.flows import python_api

    return getattr(python_api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
