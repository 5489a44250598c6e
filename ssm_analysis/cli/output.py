"""What all commands print and write: tables, JSON, pictures, files."""

import json
import os
from pathlib import Path
from typing import Any

from ssm_analysis.inspection.atomic_files import write_atomically
from ssm_analysis.inspection.plain_data import finite

PICTURES = (".png", ".svg", ".pdf")
WIDEST = 1000
"""Characters; no table is as wide."""


def checked_output(path: Path, formats: tuple[str, ...] = PICTURES) -> Path:
    """Return the path, if a file can be written there; found out before the work, not after it."""
    if path.suffix.lower() not in formats:
        raise ValueError(f"--out must end in {', '.join(formats)}, got {str(path)!r}")
    if not path.parent.is_dir():
        raise ValueError(f"--out must lie in an existing folder, got {str(path)!r}: there is no folder {str(path.parent)!r}")
    if path.is_dir():
        raise ValueError(f"--out must be a file, got the folder {str(path)!r}")
    if not os.access(path if path.exists() else path.parent, os.W_OK) or not os.access(path.parent, os.W_OK):
        raise ValueError(f"--out must be writable, got {str(path)!r}: there is no permission to write it")
    return path


def save(figure: Any, path: Path) -> None:
    """Write a picture; a failure leaves an older one as it was."""
    write_atomically(path, lambda part: figure.savefig(part, dpi=150, format=path.suffix[1:].lower()))


def print_json(data: dict[str, Any]) -> None:
    """Print plain data as JSON, null for NaN and infinity, which JSON does not know."""
    print(json.dumps(finite(data), indent=1, allow_nan=False))


def print_table(table: Any) -> None:
    """Print a table of rich; a narrow window wraps its lines, but nothing is cut off."""
    from rich.console import Console

    console = Console(markup=False, emoji=False)
    whole = console.measure(table, options=console.options.update(max_width=WIDEST)).minimum
    console.width = max(console.width, whole)
    console.print(table)
