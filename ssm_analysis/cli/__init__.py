"""The program ``ssm-analysis``: one file for each of its commands."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from ssm_analysis import __version__
from ssm_analysis.cli import export, families, figure, inspect, plot, verify
from ssm_analysis.cli.exit_codes import CLOSED_PIPE, INTERNAL, INTERRUPTED, USAGE

COMMANDS = (figure, families, inspect, verify, plot, export)
TRACEBACK = "SSM_ANALYSIS_TRACEBACK"
"""Environment variable that asks for the traceback of an internal error."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; see `exit_codes`."""
    arguments = _parser().parse_args(argv)
    try:
        status = arguments.command(arguments)
        if sys.stdout is not None:  # it is None where it was closed from the start
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        discard_output()
        return arguments.verdict if arguments.verdict is not None else CLOSED_PIPE
    except KeyboardInterrupt:
        print("ssm-analysis: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, KeyError, OSError) as error:
        reason = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"ssm-analysis: {reason}", file=sys.stderr)
        return USAGE
    except Exception as error:  # a bug of ours must not look like a verdict
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        print(f"ssm-analysis: internal error, please report it: {type(error).__name__}: {error}", file=sys.stderr)
        print(f"ssm-analysis: {TRACEBACK}=1 shows where it happened", file=sys.stderr)
        return INTERNAL


def discard_output() -> None:
    """Let nothing more be written to a pipe that nobody reads, not even at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ssm-analysis", description="Control theory for neural state-space models.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    for name, command in commands.choices.items():
        command.add_argument("--quiet", action="store_true", help="print no progress and no remarks, only what was asked for")
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        command.epilog = "examples:\n" + "\n".join(f"  ssm-analysis {name} {example}".rstrip() for example in EXAMPLES[name])
        command.set_defaults(verdict=None)
    return parser


EXAMPLES = {
    "figure": ("", "--families s4d lru --out disks.pdf", "--json"),
    "families": ("", "--json"),
    "inspect": ("my_model", "my_model --layer backbone.layers.1", "my_model --against my_model_start", "my_model --csv > rows.csv"),
    "verify": ("my_model", "my_model --dtype bf16 --property bounded_state", "my_model --norm ln --explain"),
    "plot": ("my_model unit-disk", "my_model bode --layer layers.0 --out bode.pdf"),
    "export": ("my_model --layer layers.0 --to mat", "my_model --layer layers.0 --to npz --input u.npy"),
}
"""Command lines that every ``--help`` shows."""
