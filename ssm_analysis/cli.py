"""The program ``ssm-analysis``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssm_analysis import __version__
from ssm_analysis.families import FAMILIES, PAPER

FORMATS = (".png", ".svg", ".pdf")
WIDEST = 1000
"""Characters; no table is as wide."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status, 2 for wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        status = arguments.command(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever reads, head or less, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, KeyError, OSError) as error:
        reason = error.args[0] if isinstance(error, KeyError) else error
        print(f"ssm-analysis: {reason}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ssm-analysis", description="Control theory for neural state-space models.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    figure = commands.add_parser(
        "figure",
        help="draw the eigenvalues at initialisation in the unit disk",
        description="Draw the eigenvalues of the discrete A at initialisation, one unit disk for each family, "
        "and print what Lemma 2.2 of arXiv 2403.16899 makes of them.",
    )
    figure.add_argument(
        "--families", nargs="+", default=list(PAPER), metavar="FAMILY", help=f"some of {', '.join(FAMILIES)} (default: those of the paper)"
    )
    figure.add_argument("--state-size", type=int, default=64, metavar="N", help="states per channel (default 64)")
    figure.add_argument("--d-model", type=int, default=64, metavar="H", help="features of each layer (default 64)")
    figure.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the parameters (default 0)")
    figure.add_argument(
        "--out", type=Path, default=Path("unit_disk.png"), metavar="FILE", help="a .png, .svg or .pdf (default unit_disk.png)"
    )
    figure.add_argument("--json", action="store_true", help="print the numbers that are drawn instead of the table")
    figure.set_defaults(command=_figure)

    families = commands.add_parser("families", help="Table 1 of the paper: the models and their features")
    families.add_argument("--json", action="store_true", help="print plain data")
    families.set_defaults(command=_families)
    return parser


def _figure(arguments: argparse.Namespace) -> int:
    from ssm_analysis.initialisation import initial_eigenvalues
    from ssm_analysis.plots.initial import initial_unit_disks
    from ssm_analysis.report import initial_data, memory_table

    out = checked_output(arguments.out)
    found = initial_eigenvalues(arguments.families, d_model=arguments.d_model, d_state=arguments.state_size, seed=arguments.seed)
    save(initial_unit_disks(found), out)
    if arguments.json:
        _print_json(
            {
                "d_model": arguments.d_model,
                "d_state": arguments.state_size,
                "seed": arguments.seed,
                "file": str(out),
                "families": initial_data(found),
            }
        )
    else:
        _print_table(memory_table(found))
        print(f"drawn: {out}")
    return 0


def _families(arguments: argparse.Namespace) -> int:
    from ssm_analysis.report import families_data, families_table

    if arguments.json:
        _print_json({"families": families_data(FAMILIES)})
    else:
        _print_table(families_table(FAMILIES))
    return 0


def checked_output(path: Path) -> Path:
    """The path, if a picture can be written there; found out before the work, not after it."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"--out must end in {', '.join(FORMATS)}, got {str(path)!r}")
    if not path.parent.is_dir():
        raise ValueError(f"--out must lie in an existing folder, got {str(path)!r}: there is no folder {str(path.parent)!r}")
    if path.is_dir():
        raise ValueError(f"--out must be a file, got the folder {str(path)!r}")
    if not os.access(path if path.exists() else path.parent, os.W_OK) or not os.access(path.parent, os.W_OK):
        raise ValueError(f"--out must be writable, got {str(path)!r}: there is no permission to write it")
    return path


def save(figure: Any, path: Path) -> None:
    """Write the picture beside its place first, so that a failure leaves an older picture as it was."""
    place = path.resolve()  # a link keeps pointing where it does
    partial = place.with_name(f".{place.name}.partial")
    try:
        figure.savefig(partial, dpi=150, format=path.suffix[1:].lower())
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)


def _print_json(data: dict[str, Any]) -> None:
    print(json.dumps(data, indent=1, allow_nan=False))


def _print_table(table: Any) -> None:
    from rich.console import Console

    console = Console(markup=False, emoji=False)
    whole = console.measure(table, options=console.options.update(max_width=WIDEST)).minimum
    console.width = max(console.width, whole)  # a narrow window wraps lines, but nothing is cut off
    console.print(table)
