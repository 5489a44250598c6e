"""``ssm-analysis families``: Table 1 of the paper."""

import argparse
from typing import Any

from ssm_analysis.cli.output import print_json, print_table
from ssm_analysis.families import FAMILIES


def add(commands: Any) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("families", help="Table 1 of the paper: the models and their features")
    parser.add_argument("--json", action="store_true", help="print plain data")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    from ssm_analysis.cli.tables.families import families_data, families_table

    if arguments.json:
        print_json({"families": families_data(FAMILIES)})
    else:
        print_table(families_table(FAMILIES))
    return 0
