"""``python -m benchmarks gpu``: looks whether what it needs is there, and only then imports it."""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

NEEDED = ("torch", "numpy", "pandas", "pyarrow", "pydantic", "safetensors", "fsspec")
"""The last comes with torch."""

PARTS = ("machine", "images", "tests", "attack", "steps", "first-call", "training", "dataset", "table")

TIME_LIMIT = 560.0
_RESULTS = Path(__file__).parent.parent / "results"


def main(words: Sequence[str]) -> int:
    """Run the parts; return the process's exit status: 2 if none can begin, 1 if one failed."""
    given = _parser().parse_args(words)
    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        return _refused(f"{', '.join(missing)}: not installed; pip install {' '.join(missing)}")
    from advfeat.errors import AdvfeatError
    from benchmarks.gpu.run import run

    try:
        return run(given, ["gpu", *words])
    except AdvfeatError as error:  # raised before the first part alone
        return _refused(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu",
        description="All that a GPU can show of advfeat, in a limited time, on a machine that has torch, "
        "NumPy, pandas, pyarrow, pydantic and safetensors. Attack libraries and pytest are used where they "
        "are installed. What is measured is printed and saved part by part.",
    )
    parser.add_argument(
        "--data", help="real images, any source of advfeat's DataSpec; such as numpy:FILE.npz"
    )
    parser.add_argument("--data-root", help="folder that holds the torchvision data set")
    parser.add_argument(
        "--time-limit", type=float, default=TIME_LIMIT, help=f"seconds for all of it [{TIME_LIMIT:g}]"
    )
    parser.add_argument("--parts", help=f"some of {','.join(PARTS)} [all]")
    parser.add_argument("--threads", type=int, help="CPU threads [all cores this process may use]")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a small network and little work, to try it out, also without a GPU; without --data it makes "
        "its own images",
    )
    parser.add_argument("--output", type=Path, default=_RESULTS, help="folder of the JSON file [%(default)s]")
    return parser


def _refused(line: str) -> int:
    print(line, file=sys.stderr)
    return 2
