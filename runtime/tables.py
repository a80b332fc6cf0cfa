"""Plain text tables: columns as wide as what stands in them, for terminals, files and pipes alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence


def format_table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[int] = ()
) -> str:
    """Rows under headings, two spaces between columns.

    Args:
        headings: one a column.
        rows: their cells; what is no text is printed with `str`.
        right: numbers of the columns that are aligned to the right.
    """
    lines = [tuple(headings), *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=False))
        ).rstrip()
        for line in lines
    )
