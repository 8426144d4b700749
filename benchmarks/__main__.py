"""``python -m benchmarks``: the parts that ``everything.py`` lists, or ``gpu``, which needs little."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; return the process's exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["gpu"]:  # on a machine that lacks what the other parts import
        from benchmarks.gpu import command

        return command.main(words[1:])
    from benchmarks import everything

    return everything.main(words)


if __name__ == "__main__":
    sys.exit(main())
