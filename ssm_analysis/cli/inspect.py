"""``ssm-analysis inspect``: what the layers of a checkpoint are and what is wrong with them."""

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssm_analysis.cli.checkpoints import add_checkpoint, how_to_read, progress_bar
from ssm_analysis.cli.output import print_json, print_table

if TYPE_CHECKING:
    from ssm_analysis.checkpoint.read_options import ReadOptions


def add(commands: Any) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "inspect",
        help="one row for each recurrent layer of a checkpoint",
        description="List every recurrent layer of a checkpoint: its sizes, eigenvalues, time constants, memory, gain, what had to be "
        "assumed, and what looks wrong. Times in tokens.",
    )
    add_checkpoint(parser)
    parser.add_argument("--layer", metavar="NAME", help="this layer alone, in depth: slowest modes, memory, response peaks, precision")
    parser.add_argument("--channel", type=int, metavar="K", help="with --layer: which channel (default: that with the slowest mode)")
    parser.add_argument("--against", type=Path, metavar="PATH", help="compare with another checkpoint of the same model")
    parser.add_argument(
        "--no-norms", action="store_true", help="leave out horizon, effective order and H-infinity norm, which take most of the time"
    )
    parser.add_argument("--json", action="store_true", help="print plain data")
    parser.add_argument("--csv", action="store_true", help="print the rows for a spreadsheet")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Return print rows, one layer, or a comparison."""
    how = how_to_read(arguments)
    if arguments.csv and (arguments.json or arguments.layer or arguments.against):
        raise ValueError("--csv prints rows alone; leave out --json, --layer and --against")
    if arguments.layer is not None and arguments.against is not None:
        raise ValueError("give --layer or --against, not both: the comparison has a row for each layer")
    if arguments.channel is not None and arguments.layer is None:
        raise ValueError("--channel needs --layer, whose channel it is")
    if arguments.layer is not None:
        return _one_layer(arguments, how)
    if arguments.against is not None:
        return _comparison(arguments, how)
    from ssm_analysis.cli.tables.inspection import assumption_lines, finding_lines, inspection_table, printable
    from ssm_analysis.inspection import inspect

    with progress_bar("layers", quiet=arguments.quiet) as progress:
        rows = inspect(arguments.path, **how.keywords(), norms=not arguments.no_norms, progress=progress)
    if arguments.json:
        print_json({"path": str(arguments.path), "container": rows.description, "problems": rows.problems, "layers": list(rows)})
    elif arguments.csv:
        print(_csv(rows), end="")
    else:
        if not arguments.quiet:
            print(rows.description)
        print_table(inspection_table(rows))
        remarks = () if arguments.quiet else assumption_lines(rows)
        for line in (*(printable(f"! {problem}") for problem in rows.problems), *finding_lines(rows), *remarks):
            print(line)
    return 0


def _one_layer(arguments: argparse.Namespace, how: "ReadOptions") -> int:
    from ssm_analysis.checkpoint.loading import load_one
    from ssm_analysis.cli.tables.inspection import detail_tables
    from ssm_analysis.inspection.details import details

    found = details(load_one(arguments.path, arguments.layer, how), channel=arguments.channel)
    if arguments.json:
        print_json(found)
    else:
        for table in detail_tables(found):
            print_table(table)
    return 0


def _comparison(arguments: argparse.Namespace, how: "ReadOptions") -> int:
    from ssm_analysis.cli.tables.inspection import comparison_table, finding_lines
    from ssm_analysis.inspection.comparison import compare

    rows = compare(arguments.path, arguments.against, **how.keywords())
    if arguments.json:
        print_json({"path": str(arguments.path), "against": str(arguments.against), "layers": rows})
    else:
        print_table(comparison_table(rows))
        for line in finding_lines(rows):
            print(line)
    return 0


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return scalars as they are; assumptions, notes and findings in words."""
    flat = [{name: _cell(value) for name, value in row.items()} for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return "; ".join(f"{name}={entry['value']} ({entry['source']})" for name, entry in value.items())
    if isinstance(value, list):
        return "; ".join(entry["message"] if isinstance(entry, dict) else str(entry) for entry in value)
    return value
