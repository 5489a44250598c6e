"""How large the state becomes along a text, and how far it is from the largest number of the format that stores it."""

import math
from dataclasses import dataclass

from jaxtyping import Float, Inexact

from ssm_analysis.analyses.responses.simulation import linear_recurrence
from ssm_analysis.systems import DiagonalLTV
from ssm_analysis.systems.base import check_library, check_system, in_double
from ssm_analysis.xp import Array, abs2, arange, array_namespace, device, imag, is_complex, matmul, real, stop_gradient

LARGEST = {"float16": 65504.0, "bfloat16": (2 - 2.0**-7) * 2.0**127, "float32": (2 - 2.0**-23) * 2.0**127}
"""Largest finite numbers (IEEE 754; bfloat16: 8 bits of exponent, 7 of fraction)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StateGrowth:
    """The size of the state x[k+1] that token k leaves behind, and how far it is from overflow.

    Parameters
    ----------
    largest
        The largest entry of the state after each token, in units of the state; for complex states the largest real or imaginary part.
    rms
        The root of the mean of |x_i|^2 over the states, after each token, in units of the state.
    formats
        The names of the number formats in which the state might be stored.
    headroom
        log10(largest finite number / largest entry over the whole text) for each format, in decades. It is negative where the state
        overflows and infinite where the state stays 0.
    trend
        The slope of a line through log(largest) over the second half of the text, in nats per token: positive while the state still
        grows. NaN where the state is 0 there, or there are fewer than two tokens.
    tokens_left
        headroom / trend for each format, in tokens: how long an exponential growth at this rate would take to overflow. Infinite
        where the trend is not positive; 0 where the state has overflowed already. An early warning, no forecast.
    """

    largest: Float[Array, "l *batch"]
    rms: Float[Array, "l *batch"]
    formats: tuple[str, ...]
    headroom: Float[Array, "*batch formats"]
    trend: Float[Array, "*batch"]
    tokens_left: Float[Array, "*batch formats"]


def state_growth(sys: DiagonalLTV, u: Inexact[Array, "l *batch m"]) -> StateGrowth:
    """Return how large the state becomes along an input, from x[0] = 0, and its distance to overflow.

    The states of all tokens are held at once; take windows of channels of a large layer.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.
    u
        The signal that drives the recurrence, (L, *batch, m): ``layer.core_input(u)``.

    Returns
    -------
    StateGrowth
        The size of the state after each token, and the headroom of each number format.

    Raises
    ------
    ValueError
        If ``u`` does not have the shape (L, *batch, m) of the system.

    Examples
    --------
    >>> from ssm_analysis.analyses.along import state_growth
    >>> one = np.ones((4, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.log([[2.0]] * 4), B=one, C=one, D=one)
    >>> state_growth(sys, np.array([[1.0], [0.0], [0.0], [0.0]])).largest
    array([1., 2., 4., 8.])
    """
    check_system(sys, DiagonalLTV, "state_growth")
    check_library(sys, "u", u)
    wanted = (sys.length, *sys.batch_shape, sys.ninputs)
    if tuple(u.shape) != wanted:
        raise ValueError(f"u must have shape {wanted}, (L, *batch, m) of the system, as layer.core_input(u) has it, got {tuple(u.shape)}")
    sys = in_double(sys)
    xp = sys.xp
    x = linear_recurrence(xp.exp(sys.log_poles), _entering(sys, u))
    entries = xp.maximum(xp.abs(real(x)), xp.abs(imag(x))) if is_complex(x) else xp.abs(x)
    largest = xp.max(entries, axis=-1)
    headroom = _headroom(largest)
    trend = _trend(largest)
    return StateGrowth(
        largest=largest,
        rms=xp.sqrt(xp.mean(abs2(x), axis=-1)),
        formats=tuple(LARGEST),
        headroom=headroom,
        trend=trend,
        tokens_left=_tokens_left(headroom, trend[..., None]),
    )


def _entering(sys: DiagonalLTV, u: Inexact[Array, "l *batch m"]) -> Inexact[Array, "l *batch n"]:
    """Return B[k] u[k], what each token adds to the state."""
    return sys.B[..., 0] * u if sys.ninputs == 1 else matmul(sys.B, u[..., None])[..., 0]


def _headroom(largest: Float[Array, "l *batch"]) -> Float[Array, "*batch formats"]:
    """Return the decades between the largest entry over the whole text and the largest number of each format."""
    xp, peak = array_namespace(largest), array_namespace(largest).max(largest, axis=0)
    zero = peak == 0
    size = xp.log10(xp.where(zero, xp.ones_like(peak), peak))
    limit = xp.asarray([math.log10(x) for x in LARGEST.values()], dtype=largest.dtype, device=device(largest))
    return xp.where(zero[..., None], xp.full_like(limit, math.inf), limit - size[..., None])


def _trend(largest: Float[Array, "l *batch"]) -> Float[Array, "*batch"]:
    """Return the least-squares slope of log(largest) over the second half of the text, in nats per token."""
    xp, late = array_namespace(largest), largest[largest.shape[0] // 2 :, ...]
    count = late.shape[0]
    dead = xp.any(stop_gradient(late) == 0, axis=0)
    nothing = xp.full_like(late[0, ...], math.nan)
    if count < 2:
        return nothing
    t = xp.reshape(arange(0, count, like=late) - (count - 1) / 2, (count, *(1,) * (late.ndim - 1)))
    logs = xp.log(xp.where(late == 0, xp.ones_like(late), late))
    return xp.where(dead, nothing, xp.sum(t * logs, axis=0) / xp.sum(t * t))


def _tokens_left(headroom: Float[Array, "*batch formats"], trend: Float[Array, "*batch 1"]) -> Float[Array, "*batch formats"]:
    """Return headroom / trend in tokens; infinite where the state does not grow, 0 where it has overflowed."""
    xp = array_namespace(headroom)
    grows = (trend > 0) & xp.isfinite(headroom)
    left = xp.where(headroom > 0, headroom, xp.zeros_like(headroom)) * math.log(10) / xp.where(grows, trend, xp.ones_like(headroom))
    return xp.where(grows | (headroom <= 0), left, xp.full_like(left, math.inf))
