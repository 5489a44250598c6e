"""``ssm-analysis export``: the matrices of one layer for other tools."""

import argparse
import re
from pathlib import Path
from typing import Any

from ssm_analysis.cli.checkpoints import add_checkpoint, how_to_read
from ssm_analysis.cli.output import checked_output
from ssm_analysis.inspection.export import FORMATS


def add(commands: Any) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "export",
        help="write the matrices of one layer",
        description="Write A, B, C, D of one layer in control's convention, real, dt = 1 token: for numpy, MATLAB, or as a script for "
        "python-control. A selective layer is exported along an input.",
    )
    add_checkpoint(parser)
    parser.add_argument("--layer", required=True, metavar="NAME", help="which layer; see ssm-analysis inspect")
    parser.add_argument("--to", required=True, choices=FORMATS, help="the format")
    parser.add_argument("--input", type=Path, metavar="FILE", help="for selective layers: a .npy file (L, d_model), what enters the layer")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to (default: the name of the layer)")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the files and name them."""
    import numpy as np

    from ssm_analysis.checkpoint.loading import load_one
    from ssm_analysis.inspection.export import export

    layer = load_one(arguments.path, arguments.layer, how_to_read(arguments))
    suffix = FORMATS[arguments.to]
    name = re.sub(r"[^\w.-]", "_", layer.name or layer.family) + suffix
    out = checked_output(arguments.out or Path(name), (suffix,))
    u = None if arguments.input is None else np.load(arguments.input, allow_pickle=False)
    for path in export(layer, out, to=arguments.to, u=u):
        if not arguments.quiet:
            print(f"written: {path}")
    return 0
