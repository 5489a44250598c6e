"""Tables on a terminal that lose nothing."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def unwrapped(table: "Table") -> "Table":
    """Return the same table with every entry on one line: in less space rich would cut it off."""
    for column in table.columns:
        column.min_width = max(len(str(entry)) for entry in (column.header, *column.cells))
    return table
