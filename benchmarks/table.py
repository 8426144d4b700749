"""A table as it is printed and saved, and figures as they are written in it."""

from advfeat.spec import Spec


class Table(Spec):
    """Cells with a title above and a note below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def as_text(self) -> str:
        """Return title, cells in columns, and note, for a terminal."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[number]) for line in lines) for number in range(len(self.columns))]

        def aligned(line: tuple[str, ...]) -> str:
            first, *others = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            return "  ".join((first, *(cell.strip().rjust(len(cell)) for cell in others))).rstrip()

        ruler = "  ".join("-" * width for width in widths)
        body = [aligned(self.columns), ruler, *map(aligned, self.rows)]
        return "\n".join([self.title, *body, *([self.note] if self.note else []), ""])

    def as_markdown(self) -> list[str]:
        """Return the lines of a section that holds the table."""

        def line(cells: tuple[str, ...]) -> str:
            return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"

        ruler = line(("---", *["---:"] * (len(self.columns) - 1)))
        body = [line(self.columns), ruler, *map(line, self.rows), ""]
        return [f"## {self.title}", "", *body, *([self.note, ""] if self.note else [])]


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
