r"""One row of numbers for each layer.

Lemma 2.2 of arXiv 2403.16899 asks for eigenvalues near the circle and inside it. The verdict names the time constant of the slowest mode,
-1/log|lambda| tokens: "short" below 100, "medium" below 1,000, "long" from there on, "unstable" where an eigenvalue lies on
or outside the circle.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from ssm_analysis.analyses.gramians.energy import horizon
from ssm_analysis.analyses.memory.memory_curves import effective_order
from ssm_analysis.analyses.norms.system_norms import hinf_norm
from ssm_analysis.analyses.spectrum.modes import margins
from ssm_analysis.checkpoint.problems import Problem
from ssm_analysis.inspection.examined import ExaminedLayer
from ssm_analysis.inspection.plain_data import plain
from ssm_analysis.inspection.poles_of_layers import LayerPoles
from ssm_analysis.systems import LTI
from ssm_analysis.xp import to_numpy

if TYPE_CHECKING:
    import pandas

VERDICTS = ((100, "short"), (1_000, "medium"), (math.inf, "long"))
"""Upper ends, in tokens, of the time constant of the slowest mode."""
SECONDS_FOR_64_INPUTS = 0.35
"""Of one H-infinity norm of 64 states, inputs and outputs; 1.9 s and 9.4 s with 128 and 256 of each, which is a power of 2.4."""
LEFT_OUT = "the H-infinity norm of so many inputs and outputs takes minutes and was left out: ssm.hinf_norm(layer.system())"
PATIENCE = 30.0
"""Seconds for the H-infinity norm of one layer, beyond which it is left out and said so."""
Row = dict[str, Any]


class Rows(list[Row]):
    """A table of plain data, a dictionary for each row, and what there is to say about it as a whole.

    Parameters
    ----------
    rows
        Dictionaries of numbers, texts, lists and dictionaries.
    description
        What the table is about; of a checkpoint, how it was read.
    problems
        What is missing in the checkpoint, was left out of it, or only looks like a layer.

    Examples
    --------
    >>> layer = ssm.FAMILIES["lru"].init(d_model=4, d_state=8)
    >>> rows = ssm.inspect(dict(layer.params))
    >>> rows.description, rows[0]["states"], rows._repr_html_()[:6]
    ('in memory, 8 tensors', 8, '<table')
    """

    def __init__(self, rows: Iterable[Row], *, description: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(rows)
        self.description = description
        self.problems = tuple(problems)

    def to_frame(self) -> "pandas.DataFrame":
        """Return the rows as a ``pandas.DataFrame``, a column for each name.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_frame() needs pandas: pip install 'ssm-analysis[frame]'; the rows are plain dictionaries") from error
        return pandas.DataFrame(list(self))

    def _repr_html_(self) -> str:
        """Return a table of the scalars for notebooks; findings are counted."""
        scalars = [
            {name: len(value) if name == "findings" else value for name, value in row.items() if name == "findings" or _is_scalar(value)}
            for row in self
        ]
        names = list(dict.fromkeys(name for row in scalars for name in row))
        header = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join("<tr>" + "".join(f"<td>{escape(_cell(row.get(name)))}</td>" for name in names) + "</tr>" for row in scalars)
        remarks = "".join(f"<p>{escape(problem)}</p>" for problem in self.problems)
        return f"<table><caption>{escape(self.description)}</caption><tr>{header}</tr>{body}</table>{remarks}"


def _is_scalar(value: object) -> bool:
    return not isinstance(value, dict | list)


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def row_of(examined: ExaminedLayer, *, layout: str, dtype: str, norms: bool = True) -> Row:
    """Return what one layer is, in plain numbers and words, ready for ``pandas.DataFrame``; None where something is not defined.

    Parameters
    ----------
    examined
        The layer.
    layout, dtype
        How the checkpoint stores it.
    norms
        Whether effective order, horizon and H-infinity norm are computed, which cost most of the time.
    """
    layer, poles, system = examined.layer, examined.poles, examined.system
    return {
        "name": layer.name,
        "family": layer.family,
        "layout": layout,
        "dtype": dtype,
        "time_varying": layer.time_varying,
        **_sizes(poles, system),
        **_moduli(poles),
        **(_of_system(system) if norms and system is not None else dict.fromkeys(("horizon", "effective_order", "hinf_norm"))),
        "assumptions": {
            name: {"value": plain(assumption.value), "source": assumption.source, **({"note": assumption.note} if assumption.note else {})}
            for name, assumption in layer.assumptions.items()
        },
        "notes": [*layer.notes, *([LEFT_OUT] if norms and system is not None and norm_takes_minutes(system) else [])],
    }


def _sizes(poles: LayerPoles, system: LTI | None) -> Row:
    shape = poles.log_poles.shape
    if system is not None:
        channels, states = math.prod(system.batch_shape), system.nstates
        return {"systems": channels, "states": states, "inputs": system.ninputs, "outputs": system.noutputs}
    return {"systems": math.prod(shape[:-1]), "states": shape[-1], "inputs": 1, "outputs": 1}


def _moduli(poles: LayerPoles) -> Row:
    """Return |lambda|, margin and time constants, from the logarithms: near the circle 1 - |lambda| would cancel."""
    rates = poles.rates
    slowest, middle = float(np.min(rates)), float(np.median(rates))
    time_constant = math.inf if slowest <= 0 else 1 / slowest
    return {
        "poles_of": poles.matrix,
        "eigenvalues": int(rates.size),
        "abs_min": float(np.exp(-np.max(rates))) if poles.trusted else None,
        "abs_median": float(np.exp(-middle)) if poles.trusted else None,
        "abs_max": float(np.exp(-slowest)),
        "margin": 0.0 - float(np.expm1(-slowest)),
        "on_or_outside": int(np.sum(rates <= 0)),
        "time_constant_median": (math.inf if middle <= 0 else 1 / middle) if poles.trusted else None,
        "time_constant_max": time_constant,
        "memory": "unstable" if slowest <= 0 else next(word for end, word in VERDICTS if time_constant < end),
    }


def _of_system(system: LTI) -> Row:
    """Return medians over the channels that stay bounded, and the largest H-infinity norm."""
    stable = bool(np.all(to_numpy(margins(system)) > 0))
    passed = to_numpy(horizon(system)).reshape(-1)
    passed = passed[~np.isnan(passed)]  # channels that pass nothing on
    return {
        "horizon": float(np.median(passed)) if passed.size else None,
        "effective_order": float(np.median(to_numpy(effective_order(system)))) if stable else None,
        "hinf_norm": None if norm_takes_minutes(system) else float(np.max(to_numpy(hinf_norm(system)))),
    }


def norm_takes_minutes(system: LTI) -> bool:
    """Return whether the H-infinity norm of so many inputs and outputs takes longer than anybody waits for a table."""
    if system.ninputs == system.noutputs == 1:
        return False
    size = max(system.nstates, system.ninputs, system.noutputs)
    return SECONDS_FOR_64_INPUTS * math.pow(size / 64, 2.4) > PATIENCE
