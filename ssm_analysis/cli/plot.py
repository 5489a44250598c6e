"""``ssm-analysis plot``: one picture of a checkpoint or of one of its layers."""

import argparse
from pathlib import Path
from typing import Any

from ssm_analysis.cli.checkpoints import add_checkpoint, how_to_read, progress_bar
from ssm_analysis.cli.output import checked_output, save

PICTURES = {
    "unit-disk": "eigenvalues in the unit disk, and time constant against angle",
    "bode": "gain and phase over frequency",
    "impulse": "the kernel",
    "hsv": "Hankel singular values",
    "memory": "the share of the kernel's energy that comes later than so many tokens",
}


def add(commands: Any) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "plot",
        help="draw a checkpoint",
        description="Draw all layers of a checkpoint, or one of them. "
        + "; ".join(f"{name}: {words}" for name, words in PICTURES.items())
        + ".",
    )
    add_checkpoint(parser)
    parser.add_argument("picture", choices=PICTURES, metavar="PICTURE", help=f"one of {', '.join(PICTURES)}")
    parser.add_argument("--layer", metavar="NAME", help="this layer alone")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a .png, .svg or .pdf (default: the name of the picture)")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw and save."""
    from ssm_analysis.checkpoint.loading import find_layers
    from ssm_analysis.plots.checkpoints import draw_checkpoint

    how = how_to_read(arguments)
    out = checked_output(arguments.out or Path(f"{arguments.picture.replace('-', '_')}.png"))
    with find_layers(arguments.path, how) as checkpoint:
        with progress_bar("layers", quiet=arguments.quiet) as progress:
            title = arguments.path.name
            figure = draw_checkpoint(arguments.picture, checkpoint, title=title, layer=arguments.layer, progress=progress)
        save(figure, out)
        for problem in () if arguments.quiet else checkpoint.problems:
            print(f"! {problem}")
    if not arguments.quiet:
        print(f"drawn: {out}")
    return 0
