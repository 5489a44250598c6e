"""One layer in depth: its slowest modes, what it remembers, where it responds most, and what fewer bits would do to it."""

import math
from dataclasses import fields
from typing import Any

import numpy as np

from ssm_analysis.analyses.memory.lemma import LAGS, memory
from ssm_analysis.analyses.norms.bode_features import resonances
from ssm_analysis.analyses.norms.system_norms import hinf_peak
from ssm_analysis.analyses.spectrum.damping import damp
from ssm_analysis.families.base import Layer
from ssm_analysis.inspection.poles_of_layers import LayerPoles, layer_poles
from ssm_analysis.inspection.precision_audit import precision_audit
from ssm_analysis.inspection.rows import norm_takes_minutes
from ssm_analysis.systems import LTI, DiagonalSSM
from ssm_analysis.xp import to_numpy

MODES, PEAKS = 12, 3
"""Rows of the damping table, and response peaks."""


def details(layer: Layer, *, channel: int | None = None) -> dict[str, Any]:
    """Return plain data on one layer, in the depth that a row has no room for.

    Parameters
    ----------
    layer
        The layer, e.g. ``ssm.load(path)[name]``.
    channel
        Of layers with one system per channel: which one to look at; by default that with the slowest mode.

    Returns
    -------
    dict
        "damping": the slowest modes of the channel (of a selective layer with the step of the bias alone); "memory": shares that
        last longer than 10, 100, 1,000 and 10,000 tokens; "peaks": the largest gains (time-invariant layers); "precision": see
        `precision_audit`.

    Raises
    ------
    ValueError
        If there is no such channel.
    """
    layer = layer.map(to_numpy)
    system = None if layer.time_varying else layer.system()
    poles = layer_poles(layer, system)
    channels = int(np.prod(poles.log_poles.shape[:-1], dtype=int))
    slow = np.min(-np.real(poles.log_poles), axis=-1).reshape(-1)
    if channel is not None and not 0 <= channel < channels:
        raise ValueError(f"channel must lie between 0 and {channels - 1}, got {channel}")
    chosen = int(np.argmin(slow)) if channel is None else channel
    mu = poles.log_poles.reshape(channels, -1)[chosen]
    return {
        "name": layer.name,
        "family": layer.family,
        "channel": chosen if channels > 1 else None,
        "channels": channels,
        "poles_of": poles.matrix,
        "damping": _damping(mu) if poles.trusted else [],
        "memory": _memory(system, poles),
        "peaks": [] if system is None else _peaks(_one(system, chosen)),
        "precision": [rounded.data() for rounded in precision_audit(layer, poles=poles)] if poles.trusted else [],
    }


def _damping(mu: np.ndarray) -> list[dict[str, Any]]:
    """Return the slowest modes of one channel, as `damp` describes them."""
    slowest = mu[np.argsort(-np.real(mu), kind="stable")[:MODES]]
    one = np.ones((len(slowest), 1))
    rows = _rows(damp(DiagonalSSM(log_poles=slowest, B=one, C=one.T, D=np.zeros((1, 1)))))
    for row, growth in zip(rows, np.real(slowest).tolist(), strict=True):
        pole = complex(row.pop("poles"))
        row |= {"margin": 0.0 - math.expm1(growth), "real": pole.real, "imag": pole.imag}
    return rows


def _rows(found: Any) -> list[dict[str, Any]]:
    """Return a frozen result of columns as rows."""
    columns = {field.name: to_numpy(getattr(found, field.name)).reshape(-1) for field in fields(found)}
    return [dict(zip(columns, (x.item() for x in row), strict=True)) for row in zip(*columns.values(), strict=True)]


def _memory(system: LTI | None, poles: LayerPoles) -> list[dict[str, float | int | None]]:
    if system is None:
        with np.errstate(divide="ignore"):
            times = 1 / np.maximum(poles.rates, 0)
        return [{"lag": lag, "modes": float(np.mean(times >= lag)), "energy": None} for lag in LAGS]
    found = memory(system)
    shares = {"modes": found.modes_beyond, "energy": found.energy_beyond}
    return [{"lag": lag, **{name: _mean(share[..., i]) for name, share in shares.items()}} for i, lag in enumerate(found.lags)]


def _mean(x: Any) -> float | None:
    known = to_numpy(x).reshape(-1)
    known = known[~np.isnan(known)]
    return float(np.mean(known)) if known.size else None


def _one(system: LTI, channel: int) -> LTI:
    return system if not system.batch_shape else system[np.unravel_index(channel, system.batch_shape)]  # type: ignore[index]


def _peaks(system: LTI) -> list[dict[str, Any]]:
    """Return the highest peaks of the gain; the highest alone where there are several inputs or outputs, none where that takes minutes."""
    if system.ninputs == system.noutputs == 1:
        return [row for row in _rows(resonances(system, PEAKS)) if not np.isnan(row["gain"])]  # fewer peaks than asked for
    if norm_takes_minutes(system):
        return []
    peak = hinf_peak(system)
    return [{"frequency": float(peak.omega), "gain": float(peak.gain)}]
