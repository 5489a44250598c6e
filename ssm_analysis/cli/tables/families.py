"""What the command line prints: plain data for ``--json``, tables for people."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ssm_analysis.cli.tables.rich_tables import unwrapped
from ssm_analysis.families import Family
from ssm_analysis.inspection.plain_data import finite
from ssm_analysis.studies.initialization import InitialEigenvalues

if TYPE_CHECKING:
    from rich.table import Table


def initial_data(found: Sequence[InitialEigenvalues]) -> list[dict[str, Any]]:
    """Return the numbers of the unit-disk figure, exactly those drawn; None where a number is not defined or not finite."""
    return [
        {
            "family": panel.family,
            "title": panel.title,
            "setting": panel.setting,
            "matrix": panel.matrix,
            "eigenvector_condition": finite(panel.condition),
            "series": [
                {"label": series.label, **eigenvalue_data(series.log_poles), "memory": finite(asdict(series.memory))}
                for series in panel.series
            ],
        }
        for panel in found
    ]


def eigenvalue_data(log_poles: np.ndarray) -> dict[str, list[float]]:
    """Return real and imaginary parts, and the distance to the circle without cancellation."""
    poles = np.exp(log_poles)
    return {"real": np.real(poles).tolist(), "imag": np.imag(poles).tolist(), "one_minus_abs": (-np.expm1(np.real(log_poles))).tolist()}


def memory_table(found: Sequence[InitialEigenvalues]) -> "Table":
    """Return lemma 2.2: one row for each family and input."""
    from rich.table import Table

    lags = found[0].series[0].memory.lags
    table = Table(
        title="Lemma 2.2: what the initialization remembers",
        caption=(
            "Slowest mode: max |λ|, 1-|λ|, time constant and half-life in tokens. Then the share, in %, that lasts longer than "
            "so many tokens: of the modes (time constant), of their residues, of the energy of the kernel. "
            "–: not defined (modes of a non-normal A cannot be told apart)."
        ),
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("family", no_wrap=True)
    for name in ("max |λ|", "1-|λ|", "time c.", "half-life"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("share of", no_wrap=True)
    for lag in lags:
        table.add_column(f">{lag}" if lag < 1000 else f">{lag / 1000:g}k", justify="right", no_wrap=True)
    for panel in found:
        for series in panel.series:
            m = series.memory
            slowest = (f"{m.largest:.6f}", f"{m.margin:.1e}", _number(m.time_constant), _number(m.half_life))
            for i, (share, values) in enumerate((("modes", m.modes_beyond), ("residues", m.residue_beyond), ("energy", m.energy_beyond))):
                second = series.label if i == 1 and len(panel.series) > 1 else ""
                head = (panel.title, *slowest) if i == 0 else (second, "", "", "", "")
                table.add_row(*head, share, *(_percent(x) for x in values), end_section=i == 2)
    return unwrapped(table)


def families_data(families: Mapping[str, Family]) -> list[dict[str, str]]:
    """Return Table 1 of arXiv 2403.16899 as plain rows."""
    return [{"family": f.name, "model": f.title, **asdict(f.features), "paper": f.paper} for f in families.values()]


def families_table(families: Mapping[str, Family]) -> "Table":
    """Return Table 1 of arXiv 2403.16899, one column for each model."""
    from rich.table import Table

    rows = families_data(families)
    longest = max(len(word) for row in rows for text in (*row, *row.values()) for word in text.split())
    table = Table(title="Models and their features (Table 1 of arXiv 2403.16899)", show_lines=True, expand=True)
    for name in ("", *(row["model"] for row in rows)):
        table.add_column(name, ratio=1, min_width=longest)  # in less space rich would cut words off
    for feature in rows[0]:
        if feature != "model":
            table.add_row(feature, *(row[feature] for row in rows))
    return table


def _percent(share: float) -> str:
    if math.isnan(share):
        return "–"
    percent = 100 * share
    return "0" if percent == 0 else f"{percent:.0f}" if percent >= 0.95 else "<1"


def _number(x: float) -> str:
    return f"{x:,.0f}" if math.isfinite(x) and x >= 100 else f"{x:.3g}"
