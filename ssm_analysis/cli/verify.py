"""``ssm-analysis verify``: stability proved, refuted with a witness, or honestly undecided; fit for a gate in CI."""

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ssm_analysis.cli.checkpoints import add_checkpoint, how_to_read, progress_bar
from ssm_analysis.cli.exit_codes import PROVED, REFUTED, UNDECIDED
from ssm_analysis.cli.output import print_json, print_table
from ssm_analysis.cli.tables.rich_tables import unwrapped

if TYPE_CHECKING:
    from rich.table import Table

    from ssm_analysis.certificates import Certificate
    from ssm_analysis.verification.checkpoints import Verification

MARKS = {"proved": "proved", "refuted": "REFUTED", "undecided": "undecided", "invalid": "INVALID"}


def add(commands: Any) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "verify",
        help="certify the stability of every recurrent layer of a checkpoint",
        description="Prove, refute with a witness, or leave undecided with the reason: one certificate for each layer and property. "
        "Exit code 0: all proved, 1: something refuted or invalid, 3: something undecided and nothing refuted, 2: wrong usage.",
    )
    add_checkpoint(parser)
    parser.add_argument("--layer", metavar="NAME", help="this layer alone")
    parser.add_argument(
        "--property",
        action="append",
        metavar="NAME",
        help="this property alone, e.g. bounded_state or no_overflow:bf16; may be given several times",
    )
    parser.add_argument(
        "--dtype",
        action="append",
        choices=("fp32", "bf16", "fp16", "float32", "bfloat16", "float16"),
        help="formats it is executed in (default: all three)",
    )
    parser.add_argument("--effort", choices=("fast", "tight", "witness"), default="tight", help="how hard to try (default tight)")
    parser.add_argument(
        "--input-radius", type=float, metavar="R", help="bound of what enters a layer that has no norm in front, its 2-norm"
    )
    parser.add_argument("--norm", metavar="NAME", help="what the norm in front of a layer and beside it is called, e.g. ln for blocks.3.ln")
    parser.add_argument("--hinf-below", type=float, metavar="G", help="also certify that the H-infinity norm is below G")
    parser.add_argument("--l1-below", type=float, metavar="G", help="also certify that the l1 norm is below G")
    parser.add_argument("--composition", action="store_true", help="also certify the residual stream of the model as a whole")
    parser.add_argument("--rms-floor", type=float, metavar="R", help="with --composition: what enters each norm has this root mean square")
    parser.add_argument("--explain", action="store_true", help="print the page of each certificate: theorem, numbers, assumptions, witness")
    parser.add_argument("--json", action="store_true", help="print plain data")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the certificates; the exit code says what became of them."""
    from ssm_analysis.certificates.composition import SUBJECT, composed
    from ssm_analysis.certificates.question import DTYPES, Question
    from ssm_analysis.checkpoint.loading import find_layers
    from ssm_analysis.verification.checkpoints import Bound, verify_layers
    from ssm_analysis.verification.residual_stream import compose

    question = Question(
        hinf_below=arguments.hinf_below, l1_below=arguments.l1_below, dtypes=tuple(arguments.dtype or DTYPES), effort=arguments.effort
    )
    _check_whole(arguments)
    properties = _chosen(arguments.property, (*question.properties, *(composed(question.dtypes) if arguments.composition else ())))
    bound = Bound(input_radius=arguments.input_radius, norm_name=arguments.norm)
    whole: list[Certificate] = []
    with find_layers(arguments.path, how_to_read(arguments)) as checkpoint:
        with progress_bar("layers", quiet=arguments.quiet) as progress:
            found = verify_layers(checkpoint, question, bound, layer=arguments.layer, progress=progress)
        if arguments.composition:
            whole = compose(checkpoint, found, dtypes=question.dtypes, rms_floor=arguments.rms_floor)
    layers = {name: [c for c in some if c.property in properties] for name, some in found.items()}
    whole = [c for c in whole if c.property in properties]
    certificates = [*(certificate for some in layers.values() for certificate in some), *whole]
    code = arguments.verdict = exit_code([c.verdict for c in certificates], complete=not found.unverified)
    if arguments.json:
        print_json(_data(arguments, found, layers, whole, code))
    elif arguments.explain:
        print("\n\n".join(certificate.explain() for certificate in certificates))
    else:
        if not arguments.quiet:
            print(found.description)
        for table in _tables(layers, whole):
            print_table(table)
        lines = () if arguments.quiet else _reasons({**layers, **({SUBJECT: whole} if whole else {})})
        for line in (*(f"! {problem}" for problem in found.problems), *lines, _sum(certificates, found.unverified)):
            print(line)
    return code


def _check_whole(arguments: argparse.Namespace) -> None:
    if arguments.rms_floor is not None and not arguments.composition:
        raise ValueError("--rms-floor is about the model as a whole; give --composition too")
    if arguments.composition and arguments.layer is not None:
        raise ValueError("--composition is about the model as a whole; leave out --layer")


def exit_code(verdicts: Sequence[str], *, complete: bool = True) -> int:
    """Return 1 if something is refuted or invalid, else 3 if something is undecided or layers may be missing, else 0."""
    if any(verdict in ("refuted", "invalid") for verdict in verdicts):
        return REFUTED
    return UNDECIDED if "undecided" in verdicts or not complete else PROVED


def _canonical(name: str) -> str:
    """Return the name of a property with the short name of its format."""
    from ssm_analysis.certificates.formats import ALIASES

    kind, colon, dtype = name.partition(":")
    return f"{kind}{colon}{ALIASES.get(dtype, dtype)}"


def _chosen(names: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    """Return the properties that are meant: ``no_overflow`` stands for all its formats, ``no_overflow:bfloat16`` for one."""
    names = [_canonical(name) for name in names or ()]
    unknown = [name for name in names or () if name not in known and name not in {known_name.partition(":")[0] for known_name in known}]
    if unknown:
        needs = [name for name in ("hinf_below", "l1_below") if name in unknown]
        more = "".join(f"; {name} needs --{name.replace('_', '-')} G, the gain to stay below" for name in needs)
        raise ValueError(f"--property must be some of {', '.join(known)}; got {', '.join(unknown)}{more}")
    return [name for name in known if not names or name in names or name.partition(":")[0] in names]


def _data(
    arguments: argparse.Namespace,
    found: "Verification",
    layers: Mapping[str, list["Certificate"]],
    whole: Sequence["Certificate"],
    code: int,
) -> dict[str, Any]:
    verdicts = [c.verdict for some in (*layers.values(), whole) for c in some]
    return {
        "path": str(arguments.path),
        "container": found.description,
        "problems": found.problems,
        "unverified": found.unverified,
        "verdicts": {verdict: verdicts.count(verdict) for verdict in MARKS},
        "exit_code": code,
        "layers": {name: [_plain(c) for c in some] for name, some in layers.items()},
        "composition": [_plain(c) for c in whole],
    }


def _plain(certificate: "Certificate") -> dict[str, Any]:
    """Return a certificate as plain data with all that a witness needs to run again, see `witness_of`."""
    from ssm_analysis.certificates.stored_witness import stored_witness

    witness = certificate.witness
    return {**certificate.to_dict(), "witness": None if witness is None else stored_witness(witness)}


def _tables(layers: Mapping[str, list["Certificate"]], whole: Sequence["Certificate"]) -> Iterator["Table"]:
    """Yield tables: one layer in full, several in an overview; then the model as a whole."""
    some = list(layers.values())
    if any(some):
        yield _in_full(some[0]) if len(some) == 1 else _overview(layers)
    if whole:
        yield _in_full(whole)


def _in_full(certificates: Sequence["Certificate"]) -> "Table":
    """Return a table with a row for each property, with its numbers."""
    from rich.table import Table

    table = Table(title=f"Certificates of {certificates[0].subject}", title_justify="left", box=None, pad_edge=False)
    for name in ("property", "verdict", "theorem", "numbers, between what was attained and what is proved"):
        table.add_column(name, no_wrap=True)
    for certificate in certificates:
        table.add_row(certificate.property, MARKS[certificate.verdict], certificate.theorem, certificate.numbers)
    return unwrapped(table)


def _overview(layers: Mapping[str, list["Certificate"]]) -> "Table":
    """Return a table with a row for each layer and a column for each property."""
    from rich.table import Table

    table = Table(title="Certificates", title_justify="left", box=None, pad_edge=False)
    rows = [[layer or "(bare)", *(_cell(certificate) for certificate in some)] for layer, some in layers.items()]
    headers = ["layer", *(c.property.replace("_", " ").replace(":", " ") for c in next(iter(layers.values())))]
    for header, *cells in zip(headers, *rows, strict=True):
        width = max(map(len, (*cells, *header.split())))
        table.add_column(header, min_width=width, max_width=width)
    for row in rows:
        table.add_row(*row)
    return table


def _cell(certificate: "Certificate") -> str:
    """Return the verdict and the number that a reader asks for next: the longest half-life, the largest magnitude."""
    mark, quantities = MARKS[certificate.verdict], certificate.quantities.values()
    if certificate.verdict != "proved":
        return mark
    if certificate.property == "uniform_exponential_stability":
        rates = [quantity.lower for quantity in quantities if quantity.unit.endswith("per token")]
        return f"{mark}, {math.log(2) / rates[0]:.3g} tokens" if rates and rates[0] > 0 else mark
    if certificate.property in ("bounded_state", "bounded_output") and quantities:
        return f"{mark}, {next(iter(quantities)).upper:.3g}"
    return mark  # also of a bound that is known to be finite and no more


def _reasons(layers: Mapping[str, list["Certificate"]]) -> list[str]:
    """Return every reason and witness once, with the layers and properties that share its cause."""
    shared: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    for layer, some in layers.items():
        for certificate in some:
            if certificate.verdict != "proved":
                words = certificate.explanation
                key = (MARKS[certificate.verdict], certificate.cause)
                shared.setdefault(key, []).append((layer or "(bare)", certificate.property, words))
    lines = []
    for (mark, _), cases in shared.items():
        found = {layer: None for layer, _, _ in cases}
        names, first = dict.fromkeys(name for _, name, _ in cases), cases[0]
        where = first[0] if len(found) == 1 else f"{len(found)} layers, first {first[0]}"
        lines.append(f"{mark} {', '.join(names)}, {where}: {first[2]}")
    from ssm_analysis.certificates.certificate import INPUT_BOUND

    if any(INPUT_BOUND in certificate.needs for some in layers.values() for certificate in some):
        lines.append(
            "on the command line: --norm NAME of the norm beside the layer, or --input-radius R; in Python verify(path, norm={layer: ...})"
        )
    return lines


def _sum(certificates: Sequence["Certificate"], unverified: Sequence[str]) -> str:
    verdicts = [certificate.verdict for certificate in certificates]
    counted = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in MARKS if verdict in verdicts)
    left = f"; {len(unverified)} problems may hide a layer without a certificate, so this is no proof of the whole" if unverified else ""
    return f"{counted}{left}; half-lives in tokens; --explain prints theorems, assumptions and witnesses"
