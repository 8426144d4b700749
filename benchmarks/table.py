"""A table as it is printed and saved, and figures as they are written in it."""

from advfeat.spec import Spec


class Table(Spec):
    """Cells with a title above and a note below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def figure(value: float) -> str:
    """Write a number with about three digits that count."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.3g}"


def percent(share: float) -> str:
    """Write a share of one as a percentage."""
    return f"{100 * share:.1f} %"


def mebibytes(size: int | None) -> str:
    """Write a number of bytes in MiB, or that it was not measured."""
    return "not measured" if size is None else f"{size / 2**20:,.0f}"
