"""The program ``ssm-analysis``: one file for each of its commands."""

import argparse
import os
import sys
from collections.abc import Sequence

from ssm_analysis import __version__
from ssm_analysis.cli import export, families, figure, inspect, plot, verify

COMMANDS = (figure, families, inspect, verify, plot, export)


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
    for command in COMMANDS:
        command.add(commands)
    return parser
