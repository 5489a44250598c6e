"""``ssm-analysis figure``: eigenvalues at initialization."""

import argparse
from pathlib import Path
from typing import Any

from ssm_analysis.cli.output import checked_output, print_json, print_table, save
from ssm_analysis.families import FAMILIES, PAPER


def add(commands: Any) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "figure",
        help="draw the eigenvalues at initialization in the unit disk",
        description="Draw the eigenvalues of the discrete A at initialization, one unit disk for each family, "
        "and print what Lemma 2.2 of arXiv 2403.16899 makes of them.",
    )
    parser.add_argument(
        "--families", nargs="+", default=list(PAPER), metavar="FAMILY", help=f"some of {', '.join(FAMILIES)} (default: those of the paper)"
    )
    parser.add_argument("--state-size", type=int, default=64, metavar="N", help="states per channel (default 64)")
    parser.add_argument("--d-model", type=int, default=64, metavar="H", help="features of each layer (default 64)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the parameters (default 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("unit_disk.png"), metavar="FILE", help="a .png, .svg or .pdf (default unit_disk.png)"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers that are drawn instead of the table")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw the picture, print the table."""
    from ssm_analysis.cli.tables.families import initial_data, memory_table
    from ssm_analysis.plots.initial import initial_unit_disks
    from ssm_analysis.studies.initialization import initial_eigenvalues

    out = checked_output(arguments.out)
    found = initial_eigenvalues(arguments.families, d_model=arguments.d_model, d_state=arguments.state_size, seed=arguments.seed)
    save(initial_unit_disks(found), out)
    if arguments.json:
        settings = {"d_model": arguments.d_model, "d_state": arguments.state_size, "seed": arguments.seed}
        print_json({**settings, "file": str(out), "families": initial_data(found)})
    else:
        print_table(memory_table(found))
        if not arguments.quiet:
            print(f"drawn: {out}")
    return 0
