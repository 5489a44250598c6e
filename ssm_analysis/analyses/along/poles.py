r"""How long a selective layer remembers, token by token, channel by channel: its poles along a real input.

A pole of one moment stands for the time constant -1/log|lambda|, tokens. The poles of a layer, L d_inner n of them, are counted in
bins of the time constant that are the same everywhere, so that windows of channels, stretches of tokens and whole layers
add up. The log-poles are the data; 1 - |lambda| = -expm1(log|lambda|) never meets a rounded |lambda|.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ssm_analysis.analyses.spectrum.modes import rates
from ssm_analysis.systems import DiagonalLTV, DiagonalRecurrence
from ssm_analysis.systems.base import check_system
from ssm_analysis.xp import Array, array_namespace, device, double, stop_gradient, to_numpy

SHORTEST, DECADES, PER_DECADE = 0.1, 10, 20
"""Bins from 0.1 tokens (|lambda| = 5e-5) to 1e9 tokens (1 - |lambda| = 1e-9), each 12 % wide."""
BINS = DECADES * PER_DECADE


@dataclass(frozen=True, eq=False, kw_only=True)
class EffectivePoles:
    """Counts of the time constants of all poles along an input, in bins.

    The first bin counts those below ``edges[0]``, the last those from ``edges[-1]`` on, among them states that do not decay at all.

    Parameters
    ----------
    edges
        Time constants in tokens (units of dt) between which the bins lie, logarithmically spaced.
    by_token, by_channel, by_state
        The number of time constants in each bin, for each token, each entry of the batch, each state.
    mean_rate
        The mean over the states of -log|lambda|, in nats per token: the map of what is forgotten at each token in each channel.
    slowest_rate
        The smallest -log|lambda| among the states, in nats per token.
    """

    edges: Float[Array, " edges"]
    by_token: Int[Array, "l bins"]
    by_channel: Int[Array, "*batch bins"]
    by_state: Int[Array, "n bins"]
    mean_rate: Float[Array, "l *batch"]
    slowest_rate: Float[Array, "l *batch"]

    @property
    def counts(self) -> Int[Array, " bins"]:
        """The number of all poles in each bin."""
        return array_namespace(self.by_state).sum(self.by_state, axis=0)

    @property
    def margin_edges(self) -> Float[Array, " edges"]:
        """The margins 1 - |lambda| that belong to the edges, dimensionless, decreasing."""
        return -array_namespace(self.edges).expm1(-1 / self.edges)

    def openness(self) -> Float[Array, "l *batch"]:
        """Return log2 of a channel's mean rate over all tokens by its rate at each token.

        It is +1 where the channel forgets half as fast as usual and -1 where it forgets twice as fast, infinite where nothing decays
        at a token, and NaN where a state grows.
        """
        xp, rate = array_namespace(self.mean_rate), self.mean_rate
        usual = xp.mean(rate, axis=0, keepdims=True)
        fine = (rate > 0) & (usual > 0)
        ratio = xp.log2(xp.where(fine, usual, xp.ones_like(rate)) / xp.where(fine, rate, xp.ones_like(rate)))
        return xp.where(fine, ratio, xp.where(rate == 0, xp.full_like(rate, math.inf), xp.full_like(rate, math.nan)))


def effective_poles(sys: DiagonalLTV | DiagonalRecurrence) -> EffectivePoles:
    """Count the time constants -1/log|lambda[k]| of all tokens, channels and states, and map the decay of each channel at each token.

    A layer is taken in windows of channels, an input of any length in stretches, which then add up exactly::

        joined_channels(effective_poles(sys) for sys in layer.windows(u, channels=128))
        joined_tokens(effective_poles(sys.map(lambda x: x[i : i + 512])) for i in range(0, sys.length, 512))

    The channels of a head of Mamba-2 have the same poles: pass ``sys[:, :1]``. The counts have no gradients, the maps do.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.

    Returns
    -------
    EffectivePoles
        Counts by token, channel and state in bins that are the same for every system, and two maps of rates.

    Examples
    --------
    >>> from ssm_analysis.analyses.along import effective_poles
    >>> one = np.ones((2, 1, 1))
    >>> poles = effective_poles(DiagonalLTV(log_poles=np.array([[-0.01], [-5.0]]), B=one, C=one, D=one))
    >>> poles.openness().round(2)
    array([ 7.97, -1.  ])
    >>> int(poles.counts.sum())
    2
    """
    check_system(sys, (DiagonalLTV, DiagonalRecurrence), "effective_poles")
    xp = sys.xp
    rate = double(rates(sys)) / sys.dt
    key = _bins(stop_gradient(rate))
    return EffectivePoles(
        edges=_edges(rate),
        by_token=_tally(key, axes=(0,)),
        by_channel=_tally(key, axes=tuple(range(1, key.ndim - 1))),
        by_state=_tally(key, axes=(key.ndim - 1,)),
        mean_rate=xp.mean(rate, axis=-1),
        slowest_rate=xp.min(rate, axis=-1),
    )


def joined_channels(parts: Iterable[EffectivePoles]) -> EffectivePoles:
    """Join the effective poles of windows of channels of one layer along the same tokens.

    Parameters
    ----------
    parts
        The effective poles of each window, in the order of the channels, which lie along the first batch axis.

    Returns
    -------
    EffectivePoles
        The effective poles of all channels.

    Raises
    ------
    ValueError
        If there is no part, or the parts do not fit each other.

    Examples
    --------
    >>> from ssm_analysis.analyses.along import effective_poles, joined_channels
    >>> one = np.ones((2, 3, 1, 1))
    >>> sys = DiagonalLTV(log_poles=-0.1 * np.ones((2, 3, 1)), B=one, C=one, D=one)
    >>> joined_channels(effective_poles(sys[i : i + 1]) for i in range(3)).mean_rate.shape
    (2, 3)
    """
    windows = list(parts)
    _check_parts(windows, "joined_channels", same=lambda p: (p.by_token.shape, p.by_state.shape, p.by_channel.shape[1:]))
    xp = array_namespace(windows[0].mean_rate)
    return EffectivePoles(
        edges=windows[0].edges,
        by_token=_total([p.by_token for p in windows]),
        by_channel=xp.concat([p.by_channel for p in windows]),
        by_state=_total([p.by_state for p in windows]),
        mean_rate=xp.concat([p.mean_rate for p in windows], axis=1),
        slowest_rate=xp.concat([p.slowest_rate for p in windows], axis=1),
    )


def joined_tokens(parts: Iterable[EffectivePoles]) -> EffectivePoles:
    """Join the effective poles of stretches of tokens of the same channels.

    Parameters
    ----------
    parts
        The effective poles of each stretch, in the order of the tokens.

    Returns
    -------
    EffectivePoles
        The effective poles along all tokens.

    Raises
    ------
    ValueError
        If there is no part, or the parts do not fit each other.

    Examples
    --------
    >>> from ssm_analysis.analyses.along import effective_poles, joined_tokens
    >>> one = np.ones((2, 1, 1))
    >>> sys = DiagonalLTV(log_poles=-0.1 * np.ones((2, 1)), B=one, C=one, D=one)
    >>> joined_tokens([effective_poles(sys), effective_poles(sys)]).mean_rate.shape
    (4,)
    """
    stretches = list(parts)
    _check_parts(stretches, "joined_tokens", same=lambda p: (p.by_channel.shape, p.by_state.shape))
    xp = array_namespace(stretches[0].mean_rate)
    return EffectivePoles(
        edges=stretches[0].edges,
        by_token=xp.concat([p.by_token for p in stretches]),
        by_channel=_total([p.by_channel for p in stretches]),
        by_state=_total([p.by_state for p in stretches]),
        mean_rate=xp.concat([p.mean_rate for p in stretches]),
        slowest_rate=xp.concat([p.slowest_rate for p in stretches]),
    )


def quantiles(counts: Int[Array, "*rows bins"], edges: Float[Array, " edges"], shares: Sequence[float]) -> Float[Array, "*rows shares"]:
    """Return the time constants that given shares of the counted poles do not exceed, interpolated within a bin: right to 12 %.

    ``quantiles(poles.by_token, poles.edges, (0.5,))`` is the median time constant against the position of the token.

    Parameters
    ----------
    counts
        Numbers of poles in each bin, along the last axis: a field of `EffectivePoles`.
    edges
        The time constants between which the bins lie: ``edges`` of the same object.
    shares
        Shares of the poles, each between 0 and 1, both excluded.

    Returns
    -------
    Array
        Time constants in the units of ``edges``, one for each share along the last axis: 0 below the first edge, infinite from the
        last on, NaN where nothing was counted.

    Raises
    ------
    ValueError
        If ``counts`` and ``edges`` do not belong together or a share does not lie between 0 and 1.

    Examples
    --------
    >>> from ssm_analysis.analyses.along import quantiles
    >>> quantiles(np.array([0, 2, 2, 0]), np.array([1.0, 10.0, 100.0]), (0.25, 0.5)).round(6)
    array([ 3.162278, 10.      ])
    """
    xp, n = array_namespace(counts, edges), edges.shape[0]
    if counts.shape[-1] != n + 1:
        raise ValueError(f"counts must have one bin more than there are edges, {n + 1}, got {counts.shape[-1]}")
    if len(shares) == 0 or any(not 0 < share < 1 for share in shares):
        raise ValueError(f"shares must lie between 0 and 1, both excluded, got {tuple(shares)}")
    below = xp.cumulative_sum(xp.astype(counts, edges.dtype), axis=counts.ndim - 1)
    total, logs = below[..., -1:], xp.log(edges)
    values = []
    for share in shares:
        wanted = share * total
        i = xp.sum(xp.astype(below < wanted, xp.int64), axis=-1, keepdims=True)  # the bin that reaches the share
        before = xp.take_along_axis(xp.concat([xp.zeros_like(total), below], axis=-1), i, axis=-1)
        inside = (wanted - before) / xp.where(total == 0, xp.ones_like(total), xp.take_along_axis(below, i, axis=-1) - before)
        low, high = (xp.take(logs, xp.reshape(xp.clip(i + k, 0, n - 1), (-1,))) for k in (-1, 0))
        value = xp.exp(xp.reshape(low, i.shape) + inside * xp.reshape(high - low, i.shape))
        value = xp.where(i == 0, xp.zeros_like(value), xp.where(i == n, xp.full_like(value, math.inf), value))
        values.append(xp.where(total == 0, xp.full_like(value, math.nan), value)[..., 0])
    return xp.stack(values, axis=-1)


def _edges(like: Array) -> Float[Array, " edges"]:
    """Return the time constants between which the bins lie, in the library and precision of ``like``."""
    xp = array_namespace(like)
    return xp.asarray(SHORTEST * 10 ** (np.arange(BINS + 1) / PER_DECADE), dtype=like.dtype, device=device(like))


def _bins(rate: Float[Array, "l *batch n"]) -> Int[Array, "l *batch n"]:
    """Return the number of the bin of 1 / rate: 0 below the first edge, BINS + 1 from the last on and where nothing decays."""
    xp = array_namespace(rate)
    decays = rate > 0
    position = -(xp.log(xp.where(decays, rate, xp.ones_like(rate))) * (PER_DECADE / math.log(10)) + PER_DECADE * math.log10(SHORTEST))
    key = xp.astype(xp.clip(xp.floor(position) + 1, 0, BINS + 1), xp.int32)
    return xp.where(decays, key, xp.full_like(key, BINS + 1))


def _tally(key: Int[Array, "..."], *, axes: tuple[int, ...]) -> Int[Array, "..."]:
    """Count how often each bin occurs, separately along ``axes``. This is numpy code, as the standard has no bincount."""
    shape, size = [key.shape[i] for i in axes], BINS + 2
    keys = to_numpy(key)
    rows = np.arange(math.prod(shape), dtype=np.int64).reshape([key.shape[i] if i in axes else 1 for i in range(key.ndim)])
    counts = np.bincount((keys + size * rows).ravel(), minlength=size * rows.size).reshape(*shape, size)
    return array_namespace(key).asarray(counts, device=device(key))


def _total(parts: list[Array]) -> Array:
    """Return the sum of the counts of all parts."""
    return array_namespace(*parts).sum(array_namespace(*parts).stack(parts), axis=0)


def _check_parts(parts: list[EffectivePoles], caller: str, *, same: Callable[[EffectivePoles], tuple]) -> None:
    """Raise an error unless there is a part, and ``same``, the shapes that must agree, is equal for all of them."""
    if not parts:
        raise ValueError(f"{caller} needs at least one part, got none")
    shapes = {same(p) for p in parts}
    if len(shapes) > 1:
        raise ValueError(f"{caller} needs parts of one layer that fit each other, got the shapes {sorted(shapes)}")
