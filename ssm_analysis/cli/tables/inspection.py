"""The rows of an inspection as tables and lines for people."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ssm_analysis.cli.tables.rich_tables import unwrapped
from ssm_analysis.inspection.rows import Row

if TYPE_CHECKING:
    from rich.table import Table

NOTHING = "–"
MOST_LINES = 30
"""Findings that are printed one by one; the same finding of many layers is one line anyhow."""


def inspection_table(rows: Sequence[Row]) -> "Table":
    """Return one row for each layer, and the totals."""
    table = _table(
        "Recurrent layers",
        "Eigenvalues of the discrete A, of selective layers (*) with the step of the bias alone. Time constants -1/log|λ|, tokens; memory "
        "as Lemma 2.2 of arXiv 2403.16899 sees it: the slowest mode lasts below 100 tokens (short), below 1,000 (medium) or longer (long). "
        "99 %: tokens after which that share of the kernel's energy has passed; order: states that carry 99 % of the Hankel singular "
        "values (medians over the systems); H∞: the largest gain of all systems.",
        ("layer", "family", "systems × states", "dtype"),
        ("min |λ|", "median", "max", "1-max|λ|", "time c. median", "slowest", "memory", "99 %", "order", "H∞", "findings"),
    )
    for row in rows:
        if "error" in row:
            table.add_row(
                printable(row["name"]) or "(bare)",
                row["family"],
                "could not be read",
                row["dtype"],
                *[NOTHING] * 10,
                str(len(row["findings"]) or 1),
            )
            continue
        table.add_row(
            printable(row["name"]) or "(bare)",
            row["family"] + ("*" if row["time_varying"] else ""),
            f"{row['systems']:,} × {row['states']}",
            row["dtype"],
            *(_modulus(row[name]) for name in ("abs_min", "abs_median", "abs_max")),
            f"{row['margin']:.2g}",
            *(_number(row[name]) for name in ("time_constant_median", "time_constant_max")),
            row["memory"],
            *(_number(row[name]) for name in ("horizon", "effective_order", "hinf_norm")),
            str(len(row["findings"])) if row["findings"] else "",
        )
    read = [row for row in rows if "error" not in row]
    total = sum(row["eigenvalues"] for row in read)
    table.add_section()
    table.add_row(f"{len(rows)} layers", "", f"{total:,} eigenvalues", "", *[""] * 10, str(sum(len(row["findings"]) for row in rows)))
    return unwrapped(table)


def finding_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield every finding once, with the layers that share it."""
    layers: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if "error" in row:
            layers.setdefault(("error", row["error"]), []).append(row["name"])
        for finding in row["findings"]:
            layers.setdefault((finding["severity"], finding["message"]), []).append(finding["layer"])
    order = {"error": 0, "warning": 1, "note": 2}
    for (severity, message), names in sorted(layers.items(), key=lambda item: order[item[0][0]])[:MOST_LINES]:
        where = names[0] or "(bare)" if len(names) == 1 else f"{len(names)} layers, first {names[0]}"
        yield printable(f"{severity}: {where}: {message}")
    if len(layers) > MOST_LINES:
        yield f"... and {len(layers) - MOST_LINES} findings more; see --json"


def assumption_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what was assumed and by whom, once for all layers that share it."""
    layers: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        said: dict[str, list[str]] = {}
        for name, found in row.get("assumptions", {}).items():
            said.setdefault(found["source"], []).append(f"{name} = {found['value']!r}")
        for source, values in said.items():
            layers.setdefault((source, ", ".join(values)), []).append(row["name"])
    for (source, values), names in layers.items():
        where = names[0] or "(bare)" if len(names) == 1 else f"{len(names)} layers"
        yield printable(f"{where}, by the {source}: {values}")


def comparison_table(rows: Sequence[Row]) -> "Table":
    """Return one row for each layer of two checkpoints."""
    table = _table(
        "Two checkpoints of one model",
        "Change: ||new - old|| / ||old|| of each tensor. Slowest: time constant in tokens. Largest move of an eigenvalue's logarithm, "
        "relative to its decay rate.",
        ("layer", "changes", "unchanged"),
        ("slowest", "against", "largest move"),
    )
    for row in rows:
        changes = ", ".join(f"{name} {change:.2g}" for name, change in row.get("changes", {}).items())
        numbers = (_number(row.get(name)) for name in ("time_constant_max", "time_constant_max_against", "largest_move"))
        table.add_row(printable(row["name"]) or "(bare)", changes or NOTHING, ", ".join(row.get("unchanged", [])) or NOTHING, *numbers)
    return unwrapped(table)


def detail_tables(found: dict[str, Any]) -> Iterator["Table"]:
    """Yield slowest modes, memory, response peaks and precision of one layer."""
    channel = "" if found["channel"] is None else f", channel {found['channel']} of {found['channels']}"
    modes = _table(
        f"{printable(found['name']) or found['family']}{channel}: slowest modes", found["poles_of"], (),
        ("|λ|", "1-|λ|", "re", "im", "damping", "rad/token", "time constant"),
    )  # fmt: skip
    for mode in found["damping"]:
        modes.add_row(
            _modulus(mode["magnitude"]), f"{mode['margin']:.2g}", f"{mode['real']:.6f}", f"{mode['imag']:.6f}",
            *(_number(mode[name]) for name in ("damping", "natural_frequency", "time_constant")),
        )  # fmt: skip
    yield modes
    memory = _table("What lasts longer, in %", "", ("share of",), tuple(f"> {row['lag']:,} tokens" for row in found["memory"]))
    for share in ("modes", "energy"):
        memory.add_row(share, *(NOTHING if row[share] is None else f"{100 * row[share]:.3g}" for row in found["memory"]))
    yield memory
    if found["peaks"]:
        peaks = _table("Highest peaks of the gain", "", (), ("rad/token", "period, tokens", "gain"))
        for peak in found["peaks"]:
            period = 6.283185307179586 / abs(peak["frequency"]) if peak["frequency"] else float("inf")
            peaks.add_row(_number(peak["frequency"]), _number(period), _number(peak["gain"]))
        yield peaks
    precision = _table(
        "Kept in fewer bits", "Relative change of -log|λ|; eigenvalues that land on the circle or outside it.", ("format", "of"),
        ("median change", "largest", "on circle", "outside", "slowest, tokens"),
    )  # fmt: skip
    for row in found["precision"]:
        counts = (f"{row['on_circle']:,}", f"{row['outside']:,}")
        changes = (_number(row["median_change"]), _number(row["largest_change"]))
        precision.add_row(row["dtype"], row["kept"], *changes, *counts, _number(row["slowest_after"]))
    yield unwrapped(precision)


def printable(text: str) -> str:
    """Return names come from files: what would steer the terminal is written out."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _table(title: str, caption: str, words: Sequence[str], numbers: Sequence[str]) -> "Table":
    from rich.table import Table

    table = Table(title=title, caption=caption, caption_justify="left", title_justify="left", box=None, pad_edge=False)
    for name in words:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _modulus(x: float | None) -> str:
    return NOTHING if x is None else f"{x:.6f}"


def _number(x: float | None) -> str:
    if x is None or x != x:
        return NOTHING
    if x == float("inf"):
        return "∞"
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"
