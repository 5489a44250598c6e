"""``ssm-analysis verify``: stability proved, refuted with a witness, or honestly undecided; fit for a gate in CI."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ssm_analysis.cli.checkpoints import add_checkpoint, how_to_read, progress_bar
from ssm_analysis.cli.output import print_json, print_table
from ssm_analysis.rich_tables import unwrapped

if TYPE_CHECKING:
    from rich.table import Table

    from ssm_analysis.certificates import Certificate

PROVED, REFUTED, USAGE, UNDECIDED = 0, 1, 2, 3
"""Exit codes: all proved; something refuted or invalid; wrong usage; something undecided and nothing refuted."""
MARKS = {"proved": "proved", "refuted": "REFUTED", "undecided": "undecided", "invalid": "INVALID"}


def add(commands: Any) -> None:
    """Its arguments."""
    parser = commands.add_parser(
        "verify",
        help="certify the stability of every recurrent layer of a checkpoint",
        description="Prove, refute with a witness, or leave undecided with the reason: one certificate for each layer and property. "
        "Exit code 0: all proved, 1: something refuted or invalid, 3: something undecided and nothing refuted, 2: wrong usage.",
    )
    add_checkpoint(parser)
    parser.add_argument("--layer", metavar="NAME", help="this layer alone")
    parser.add_argument("--property", action="append", metavar="NAME", help="this property alone; may be given several times")
    parser.add_argument("--dtype", action="append", choices=("fp32", "bf16", "fp16"), help="formats it is executed in (default: all three)")
    parser.add_argument("--effort", choices=("fast", "tight", "witness"), default="tight", help="how hard to try (default tight)")
    parser.add_argument(
        "--input-radius", type=float, metavar="R", help="bound of what enters a layer that has no norm in front, its 2-norm"
    )
    parser.add_argument("--hinf-below", type=float, metavar="G", help="also certify that the H-infinity norm is below G")
    parser.add_argument("--l1-below", type=float, metavar="G", help="also certify that the l1 norm is below G")
    parser.add_argument("--explain", action="store_true", help="print the page of each certificate: theorem, numbers, assumptions, witness")
    parser.add_argument("--json", action="store_true", help="print plain data")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the certificates; the exit code says what became of them."""
    from ssm_analysis.verification import DTYPES, Wanted, verify_checkpoint

    wanted = Wanted(
        hinf_below=arguments.hinf_below, l1_below=arguments.l1_below, dtypes=tuple(arguments.dtype or DTYPES), effort=arguments.effort
    )
    how = how_to_read(arguments)
    with progress_bar("layers") as progress:
        found = verify_checkpoint(
            arguments.path, **how, layer=arguments.layer, input_radius=arguments.input_radius, wanted=wanted, progress=progress
        )
    found = _chosen(found, arguments.property)
    if arguments.json:
        print_json({"path": str(arguments.path), "layers": {name: [c.to_dict() for c in some] for name, some in found.items()}})
    elif arguments.explain:
        print("\n\n".join(certificate.explain() for some in found.values() for certificate in some))
    else:
        print_table(_table(found))
        for line in _lines(found):
            print(line)
    return exit_code([certificate.verdict for some in found.values() for certificate in some])


def exit_code(verdicts: Sequence[str]) -> int:
    """0 all proved, 1 something refuted or invalid, 3 something undecided and nothing refuted."""
    if any(verdict in ("refuted", "invalid") for verdict in verdicts):
        return REFUTED
    return UNDECIDED if "undecided" in verdicts else PROVED


def _chosen(found: Mapping[str, list["Certificate"]], names: Sequence[str] | None) -> dict[str, list["Certificate"]]:
    if not names:
        return dict(found)
    known = {certificate.property for some in found.values() for certificate in some}
    unknown = [name for name in names if name not in known and name not in {known_name.partition(":")[0] for known_name in known}]
    if unknown:
        raise ValueError(f"--property must be some of {', '.join(sorted(known))}; got {', '.join(unknown)}")
    return {layer: [c for c in some if c.property in names or c.property.partition(":")[0] in names] for layer, some in found.items()}


def _table(found: Mapping[str, list["Certificate"]]) -> "Table":
    from rich.table import Table

    table = Table(title="Certificates", title_justify="left", box=None, pad_edge=False)
    for name in ("layer", "property", "verdict", "theorem", "numbers, between what was attained and what is proved"):
        table.add_column(name, no_wrap=True)
    for layer, some in found.items():
        for i, certificate in enumerate(some):
            first = str(certificate).splitlines()[0].partition(": ")[2]
            table.add_row(
                (layer or "(bare)") if i == 0 else "", certificate.property, MARKS[certificate.verdict], certificate.theorem, first,
                end_section=i == len(some) - 1,
            )  # fmt: skip
    return unwrapped(table)


def _lines(found: Mapping[str, list["Certificate"]]) -> list[str]:
    """Every reason and witness once, with the layers that share it; and the sum."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    count = dict.fromkeys(MARKS, 0)
    for layer, some in found.items():
        for certificate in some:
            count[certificate.verdict] += 1
            if certificate.verdict != "proved":
                words = certificate.reason or (certificate.witness.describe() if certificate.witness is not None else "")
                reasons.setdefault((MARKS[certificate.verdict], certificate.property, words), []).append(layer or "(bare)")
    lines = [
        f"{mark} {name}, {layers[0] if len(layers) == 1 else f'{len(layers)} layers, first {layers[0]}'}: {words}"
        for (mark, name, words), layers in reasons.items()
    ]
    return [*lines, ", ".join(f"{n} {verdict}" for verdict, n in count.items() if n) + "; --explain prints the theorems and assumptions"]
