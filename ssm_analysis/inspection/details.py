"""One layer in depth: its slowest modes, what it remembers, where it responds most, and what fewer bits would do to it."""

import math
from dataclasses import fields

import numpy as np
from jaxtyping import Float

from ssm_analysis.analyses.memory.lemma import LAGS, memory
from ssm_analysis.analyses.norms.bode_features import Resonances, resonances
from ssm_analysis.analyses.norms.system_norms import hinf_peak
from ssm_analysis.analyses.responses.gains import flattened
from ssm_analysis.analyses.spectrum.damping import Damping, damp
from ssm_analysis.families.base import Layer
from ssm_analysis.inspection.examined import examine
from ssm_analysis.inspection.poles_of_layers import LayerPoles
from ssm_analysis.inspection.precision_audit import DTYPES, precision_of
from ssm_analysis.inspection.rows import Row, Rows, norm_takes_minutes
from ssm_analysis.systems import LTI, DiagonalSSM
from ssm_analysis.xp import Array, to_numpy

MODES, PEAKS = 12, 3
"""Rows of the damping table, and response peaks."""


def details(layer: Layer, *, channel: int | None = None) -> Row:
    """Return what a row of `inspect` has no room for, on one layer: numbers and tables of plain data.

    Parameters
    ----------
    layer
        The layer, e.g. ``ssm.load(path)[name]``.
    channel
        Which system to look at, of a layer that has one for each channel. None: the channel with the slowest mode.

    Returns
    -------
    dict
        "name", "family", "channel" and "channels", and "poles_of", which says whose eigenvalues these are. Four of the entries are
        tables (`Rows`): "damping", the slowest modes of the channel (of a selective layer with the step of the bias alone); "memory",
        the shares that last longer than 10, 100, 1,000 and 10,000 tokens; "peaks", the largest gains of a time-invariant layer; and
        "precision", see `precision_audit`.

    Raises
    ------
    ValueError
        If there is no such channel.

    Examples
    --------
    >>> layer = ssm.FAMILIES["s4d"].init(d_model=3, d_state=8)
    >>> found = ssm.details(layer, channel=1)
    >>> found["channels"], len(found["damping"]), [row["lag"] for row in found["memory"]]
    (3, 4, [10, 100, 1000, 10000])
    """
    examined = examine(layer)
    poles = examined.poles
    channels = math.prod(poles.log_poles.shape[:-1])
    if channel is not None and not 0 <= channel < channels:
        raise ValueError(f"channel must lie between 0 and {channels - 1}, got {channel}")
    slowest = np.min(-np.real(poles.log_poles), axis=-1).reshape(-1)
    chosen = int(np.argmin(slowest)) if channel is None else channel
    log_poles = poles.log_poles.reshape(channels, -1)[chosen]
    tables = {
        "damping": _damping(log_poles) if poles.trusted else [],
        "memory": _memory(examined.system, poles),
        "peaks": [] if examined.system is None else _peaks(_one(examined.system, chosen)),
        "precision": precision_of(examined, DTYPES) if poles.trusted else [],
    }
    return {
        "name": layer.name,
        "family": layer.family,
        "channel": chosen if channels > 1 else None,
        "channels": channels,
        "poles_of": poles.matrix,
        **{name: Rows(rows, description=f"{name} of layer {layer.name or layer.family}") for name, rows in tables.items()},
    }


def _damping(mu: np.ndarray) -> list[Row]:
    """Return the slowest modes of one channel, as `damp` describes them."""
    slowest = mu[np.argsort(-np.real(mu), kind="stable")[:MODES]]
    one = np.ones((len(slowest), 1))
    rows = _rows(damp(DiagonalSSM(log_poles=slowest, B=one, C=one.T, D=np.zeros((1, 1)))))
    for row, growth in zip(rows, np.real(slowest).tolist(), strict=True):
        pole = complex(row.pop("poles"))
        row |= {"margin": 0.0 - math.expm1(growth), "real": pole.real, "imag": pole.imag}
    return rows


def _rows(result: Damping | Resonances) -> list[Row]:
    """Return a frozen result of columns as rows."""
    columns = {field.name: to_numpy(getattr(result, field.name)).reshape(-1) for field in fields(result)}
    return [dict(zip(columns, (x.item() for x in row), strict=True)) for row in zip(*columns.values(), strict=True)]


def _memory(system: LTI | None, poles: LayerPoles) -> list[Row]:
    if system is None:
        with np.errstate(divide="ignore"):
            times = 1 / np.maximum(poles.rates, 0)
        return [{"lag": lag, "modes": float(np.mean(times >= lag)), "energy": None} for lag in LAGS]
    remembered = memory(system)
    shares = {"modes": remembered.modes_beyond, "energy": remembered.energy_beyond}
    return [{"lag": lag, **{name: _mean(share[..., i]) for name, share in shares.items()}} for i, lag in enumerate(remembered.lags)]


def _mean(shares: Float[Array, "*batch"]) -> float | None:
    """Return the mean over the channels for which the share is defined; None if there is none."""
    defined = to_numpy(shares).reshape(-1)
    defined = defined[~np.isnan(defined)]
    return float(np.mean(defined)) if defined.size else None


def _one(system: LTI, channel: int) -> LTI:
    return flattened(system)[channel] if system.batch_shape else system


def _peaks(system: LTI) -> list[Row]:
    """Return the highest peaks of the gain; the highest alone where there are several inputs or outputs, none where that takes minutes."""
    if system.ninputs == system.noutputs == 1:
        return [row for row in _rows(resonances(system, PEAKS)) if not np.isnan(row["gain"])]  # fewer peaks than asked for
    if norm_takes_minutes(system):
        return []
    peak = hinf_peak(system)
    return [{"frequency": float(peak.omega), "gain": float(peak.gain)}]
