"""Arguments that all commands share which read a checkpoint, and a bar that shows how far they are."""

import argparse
import ast
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssm_analysis.checkpoint.read_options import ReadOptions


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add PATH, and what the weights do not tell."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a checkpoint: a file, or a folder with config.json")
    parser.add_argument("--family", metavar="FAMILY", help="look for layers of this family alone")
    parser.add_argument(
        "--assume",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option that the weights do not tell, e.g. dt_transform=softplus",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="a JSON file in the place of the config.json beside the weights")
    parser.add_argument(
        "--own",
        type=Path,
        metavar="FILE",
        help="a Python file of your own with layouts or a FAMILY, for layers that are in no list (docs/own_layers.md); it is run",
    )


def how_to_read(arguments: argparse.Namespace) -> "ReadOptions":
    """Return what these arguments say about the checkpoint."""
    from ssm_analysis.checkpoint.read_options import ReadOptions

    return ReadOptions(
        family=arguments.family,
        assume=dict(_assumption(text) for text in arguments.assume),
        config=None if arguments.config is None else _config(arguments.config),
        layouts=() if arguments.own is None else _own_layouts(arguments.own),
    )


@contextmanager
def progress_bar(words: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on the terminal; nothing where the output of errors is not one, or with ``quiet``."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(words, total=None)
        yield lambda done, count: bar.update(task, completed=done, total=count)


def _assumption(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"--assume must be NAME=VALUE, e.g. dt_transform=softplus; got {text!r}")
    try:
        return name, ast.literal_eval(value)  # numbers, True, None, tuples
    except (ValueError, SyntaxError):
        return name, value


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"--config must be a JSON file, got {str(path)!r}: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"--config must hold an object, got a {type(config).__name__} in {str(path)!r}")
    return config


def _own_layouts(path: Path) -> list[Any]:
    """Return the layouts that a Python file defines; its family is known from then on."""
    import runpy

    from ssm_analysis.families import FAMILIES
    from ssm_analysis.families.shared.layouts import Layout

    defined = runpy.run_path(str(path))
    layouts = [value for value in defined.values() if isinstance(value, Layout)]
    family = defined.get("FAMILY")
    if family is not None:
        FAMILIES[family.name] = family
    if not layouts and family is None:
        raise ValueError(f"--own must be a Python file that defines layouts or a FAMILY, got {str(path)!r}, which has neither")
    return layouts
