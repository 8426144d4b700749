"""``python -m benchmarks PART``: measure, print, save, on a machine where advfeat is installed."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import ValidationError

from advfeat.errors import AdvfeatError
from advfeat.hardware import device
from advfeat.spec import DataSpec
from benchmarks import (
    attacks,
    full_store,
    grids,
    growth,
    job,
    machine,
    nodes,
    report,
    scale,
    storage,
    thousands,
    training,
)
from benchmarks.options import add_options, chosen, command_line
from benchmarks.report import say

PARTS = (
    "machine",
    "attacks",
    "growth",
    "training",
    "scale",
    "nodes",
    "grids",
    "thousands",
    "storage",
    "store",
    "job",
)
_QUICK_TRAIN_SIZE = 400


def main(words: Sequence[str]) -> int:
    """Run the parts asked for; return the process's exit status."""
    given = _parser().parse_args(words)
    torch.set_num_threads(given.threads or machine.usable_cores())
    try:
        _run(given, command_line(words))
    except ValidationError as error:
        wrong = error.errors()[0]
        field = str(next(iter(wrong["loc"]), "options"))
        option = {"source": "data", "root": "data-root"}.get(field, field.replace("_", "-"))
        print(f"--{option}: {wrong['input']!r}: {wrong['msg']}", file=sys.stderr)
        return 2
    except AdvfeatError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _run(given: argparse.Namespace, command: str) -> None:
    quick = bool(given.quick)
    train_size = given.train_size or (_QUICK_TRAIN_SIZE if quick else None)
    data = DataSpec(source=given.data, root=given.data_root, train_size=train_size)
    of_attacks = chosen(attacks.QUICK if quick else attacks.Settings(), given)
    of_growth = chosen(growth.QUICK if quick else growth.Settings(), given)
    of_training = chosen(training.QUICK if quick else training.Settings(), given)
    of_scale = chosen(scale.QUICK if quick else scale.Settings(), given)
    of_nodes = chosen(nodes.QUICK if quick else nodes.Settings(), given)
    of_grids = chosen(grids.QUICK if quick else grids.Settings(), given)
    of_thousands = chosen(thousands.QUICK if quick else thousands.Settings(), given)
    of_storage = chosen(storage.QUICK if quick else storage.Settings(), given)
    of_store = chosen(full_store.QUICK if quick else full_store.Settings(), given)
    of_job = chosen(job.QUICK if quick else job.Settings(), given)
    book = report.Book(machine.describe(), given.output, command, quick=quick)
    for part in PARTS if given.part == "all" else (given.part,):
        if part == "machine":
            report.show(book.machine.table())
            book.keep("peaks", machine.measure_peaks(device(), quick=quick))
        elif part == "attacks":
            book.keep("attacks", attacks.run(of_attacks, data, quick=quick, say=say))
        elif part == "growth":
            book.keep("growth", growth.run(of_growth, data, say=say))
        elif part == "training":
            book.keep("training", training.run(of_training, data, say=say))
        elif part == "scale":
            book.keep("scale", scale.run(of_scale, say=say))
        elif part == "nodes":
            book.keep("nodes", nodes.run(of_nodes, say=say))
        elif part == "grids":
            book.keep("grids", grids.run(of_grids, say=say))
        elif part == "thousands":
            book.keep("thousands", thousands.run(of_thousands, say=say))
        elif part == "storage":
            book.keep("storage", storage.run(of_storage, say=say))
        elif part == "store":
            book.keep("store", full_store.run(of_store, say=say))
        else:
            book.keep("job", job.run(of_job, data))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure advfeat beside its peers; defaults in brackets.",
        epilog="python -m benchmarks gpu --help: all that a GPU can show, on a machine with little else.",
    )
    parser.add_argument(
        "part", nargs="?", default="all", choices=(*PARTS, "all"), help="what to measure [all]"
    )
    parser.add_argument("--quick", action="store_true", help="small work, to try it out; saved apart")
    parser.add_argument("--data", default="digits", help="any source of advfeat's DataSpec [digits]")
    parser.add_argument("--data-root", help="folder that holds the torchvision data set")
    parser.add_argument("--train-size", type=int, help="use this many training images [all]")
    parser.add_argument("--threads", type=int, help="CPU threads [all cores this process may use]")
    parser.add_argument("--output", type=Path, default=report.FOLDER, help="folder of the reports")
    parts = (
        attacks.Settings(),
        growth.Settings(),
        training.Settings(),
        scale.Settings(),
        nodes.Settings(),
        grids.Settings(),
        thousands.Settings(),
        storage.Settings(),
        full_store.Settings(),
        job.Settings(),
    )
    add_options(parser, parts)
    return parser
