"""Which compiled form of an attack step runs, and at which tile: found by timing, and kept on disk.

What is found is written beside what torch's compiler keeps: in the user's own folder of this machine. So the
next worker makes at once what was found the fastest, of parts that are on disk too. A worker tries forms as
long as its work allows for; the next one goes on where it stopped.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from advfeat.attacks.step_candidates import CANDIDATES, PRESENT, Timed, least_alike, try_candidate
from advfeat.attacks.step_graph import Example, Step, compile_step

logger = logging.getLogger(__name__)

ExampleOf = Callable[[int], Example]
"""How many images -> an example of a step for so many."""

_Found = dict[tuple[str, int], Timed]
"""What is known of the forms of one step, by name and tile."""

_TILE_MULTIPLE = 64
_SECONDS_TO_AUTOTUNE = 60.0
"""At least: dozens of kernels are written, compiled and timed."""

_NO_MEMORY = "does not fit the memory"
_PASSING = ("memory", "No space", "engine")
"""Of problems that another process may not have: words of CUDA's, the compiler's and cuDNN's messages."""


def fastest_step(
    step: Step, example_of: ExampleOf, *, kind: str, tile: int, largest_tile: int, images: int, seconds: float
) -> tuple[Step, int]:
    """Return the compiled form of a step that attacks so many ``images`` the fastest, and its tile.

    The present form at ``tile`` images is always looked at. Others, and tiles of up to ``largest_tile``, are
    tried while ``seconds`` last, and none a second time on this machine: ``kind`` names all that
    decides how fast they are, but for the machine. Raises ``torch.OutOfMemoryError`` where the
    present form does not fit.
    """
    where = example_of(1)[0].device
    place, larger = _place(kind, where), _even_tile(images, tile, largest_tile)
    recalled = _recalled(place)
    found = {key: timed for key, timed in recalled.items() if key[1] in (tile, larger)}
    made: dict[tuple[str, int], Step] = {}

    def attempt(name: str, size: int) -> Timed:
        present = found.get((PRESENT, tile))
        floor = {} if present is None or name == PRESENT else {"floor": least_alike(present)}
        try:
            timed, compiled = try_candidate(name, step, example_of(size), **floor)
        except torch.OutOfMemoryError:
            if (name, size) == (PRESENT, tile):
                raise
            timed, compiled = Timed(name, size, 0.0, 0.0, 0.0, _NO_MEMORY), step
        found[name, size], made[name, size] = timed, compiled
        return timed

    if (PRESENT, tile) not in found:
        attempt(PRESENT, tile)
    for name, size in _untried(found, tile, larger, images):
        expected = _SECONDS_TO_AUTOTUNE if name == "autotuned" else found[PRESENT, tile].seconds
        if expected > seconds:
            break
        seconds -= attempt(name, size).seconds
    while (best := _best(found, images)) is not None and best not in made:
        attempt(*best)  # what another process found may fail here
    _remember(place, recalled | found)
    logger.info("%s", _told(found, best))
    if best is None:
        return compile_step(step, example_of(tile)), tile  # it fails, and says why
    return made[best], best[1]


def _untried(found: _Found, tile: int, larger: int, images: int) -> Iterator[tuple[str, int]]:
    """Give forms and tiles that nothing is known of, in order of what they may bring."""

    def fastest_at(*sizes: int) -> tuple[str, int]:
        return _best({key: each for key, each in found.items() if key[1] in sizes}, images) or (PRESENT, tile)

    orders: list[Callable[[], tuple[str, int]]] = [
        lambda: ("fused relus", tile),
        lambda: (fastest_at(tile)[0], larger),
        lambda: ("fused relus, gradients not spread", fastest_at(tile, larger)[1]),
        lambda: ("autotuned", fastest_at(tile, larger)[1]),
    ]
    for order in orders:
        name, size = order()
        if (name, size) not in found:
            yield name, size


def _even_tile(images: int, tile: int, largest: int) -> int:
    """Return a tile of at most ``largest`` that leaves little of the last one empty, or else ``tile``."""
    if images <= tile or largest <= tile:
        return tile
    multiple = min(_TILE_MULTIPLE, tile)
    each = -(-images // -(-images // largest))
    return max(tile, min(largest, -(-each // multiple) * multiple))


def _best(found: _Found, images: int) -> tuple[str, int] | None:
    """Return which form attacks so many images in the shortest time, with whole tiles."""
    usable = {key: timed for key, timed in found.items() if not timed.problem}

    def seconds(key: tuple[str, int]) -> float:
        timed = usable[key]
        return -(-images // timed.tile) * timed.tile / timed.image_steps_per_second

    return min(usable, key=seconds, default=None)


def _told(found: _Found, best: tuple[str, int] | None) -> str:
    each = [
        f"{timed.name}, tile {timed.tile:,}: "
        + (timed.problem or f"{timed.image_steps_per_second:,.0f} image-steps/s")
        for timed in found.values()
    ]
    chosen = "as it is" if best is None else f"{best[0]}, tile {best[1]:,}"
    return f"the attack step runs {chosen} ({'; '.join(each)})"


def _place(kind: str, where: torch.device) -> Path:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    on_gpu = where.type == "cuda"
    card = torch.cuda.get_device_name(where) if on_gpu else "cpu"
    libraries = torch.__version__, torch.backends.cudnn.version() if on_gpu else None
    digest = hashlib.sha256(repr((kind, card, libraries)).encode()).hexdigest()
    return Path(cache_dir()) / "advfeat" / f"{digest}.json"


def _recalled(place: Path) -> _Found:
    """Read what was found before; nothing where there is no such file, or it makes no sense."""
    try:
        each = [Timed(**fields) for fields in json.loads(place.read_text(encoding="utf-8"))]
        return {(timed.name, timed.tile): timed for timed in each if _makes_sense(timed)}
    except (OSError, ValueError, TypeError):
        return {}


def _makes_sense(timed: Timed) -> bool:
    numbers = timed.image_steps_per_second, timed.seconds, timed.alike
    if timed.name not in CANDIDATES or not isinstance(timed.tile, int) or timed.tile < 1:
        return False
    return all(isinstance(one, float) and one >= 0 for one in numbers) and (
        bool(timed.problem) or timed.image_steps_per_second > 0
    )


def _remember(place: Path, found: _Found) -> None:
    """Write what was found for other processes; of two at once the last one stays."""
    lasting = [
        asdict(timed) for timed in found.values() if not any(word in timed.problem for word in _PASSING)
    ]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(lasting), encoding="utf-8")
        new.replace(place)
    except OSError as error:
        logger.info("how fast an attack step's forms are is not kept (%s)", error)
