r"""Products of the transition matrices of a time-varying diagonal system, and the operator that they make of it.

    x[t] = Phi(t, s) x[s],   Phi(t, s) = Lambda[t-1] ... Lambda[s],   Phi(s, s) = I  (without input),
    y[t] = sum_{s < t} C[t] Phi(t, s+1) B[s] u[s] + D[t] u[t].

Products are sums of log-poles until the very end, so that neither 10^6 factors nor |lambda| = 1 - 10^-12 cost a digit.
"""

import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral

from jaxtyping import Inexact

from ssm_analysis.systems import DiagonalLTV, DiagonalRecurrence
from ssm_analysis.systems.base import check_library, check_system, in_double
from ssm_analysis.xp import Array, adjoint, array_namespace, conj, matmul

WIDE = 256
"""From so many numbers a time step on, adding step by step is up to nine times as fast as a cumulative sum along axis 0 (measured)."""


def log_transition(sys: DiagonalLTV | DiagonalRecurrence, *, start: int, stop: int) -> Inexact[Array, "*batch n"]:
    """Return log Phi(stop, start) = log_poles[start] + ... + log_poles[stop - 1]: what happens to a state from x[start] to x[stop].

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.
    start, stop
        The first and the last time, 0 <= start <= stop <= L.

    Returns
    -------
    Array
        One logarithm for each state, dimensionless; its imaginary part, in radians, is not wrapped.

    Raises
    ------
    ValueError
        If the times are not in order within the system.

    References
    ----------
    Rugh, Linear System Theory, 2nd ed. (1996), chapter 20 (transition matrices in discrete time).

    Examples
    --------
    >>> from ssm_analysis.analyses.along import log_transition
    >>> one = np.ones((3, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.log([[0.5], [0.25], [0.1]]), B=one, C=one, D=one)
    >>> np.exp(log_transition(sys, start=0, stop=2)).round(6)
    array([0.125])
    """
    check_system(sys, (DiagonalLTV, DiagonalRecurrence), "log_transition")
    length = sys.log_poles.shape[0]
    if not 0 <= start <= stop <= length:
        raise ValueError(f"start and stop must satisfy 0 <= start <= stop <= {length}, the number of steps, got {start} and {stop}")
    return sys.xp.sum(in_double(sys).log_poles[start:stop, ...], axis=0)


def adjoint_system(sys: DiagonalLTV) -> DiagonalLTV:
    """Return the adjoint map y -> u with time reversed, (Lambda*, C*, B*, D*)[L-1-k], which is again a causal system.

    It satisfies sum conj(v) simulate(sys, u) = sum conj(simulate(adjoint_system(sys), flip v)) flip(u), with flips along time.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.

    Returns
    -------
    DiagonalLTV
        The adjoint system, with as many inputs as ``sys`` has outputs.

    References
    ----------
    van der Veen, Dewilde, Linear Algebra Appl. 205/206 (1994) 1145-1202.

    Examples
    --------
    >>> from ssm_analysis.analyses.along import adjoint_system
    >>> one = np.ones((2, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.log([[0.1], [0.5]]), B=one, C=2 * one, D=one)
    >>> np.exp(adjoint_system(sys).log_poles)[:, 0].round(6)
    array([0.5, 0.1])
    """
    check_system(sys, DiagonalLTV, "adjoint_system")
    log_poles, B, C, D = (sys.xp.flip(x, axis=0) for x in (sys.log_poles, sys.B, sys.C, sys.D))
    return replace(sys, log_poles=conj(log_poles), B=adjoint(C), C=adjoint(B), D=adjoint(D))


def driven_by(sys: DiagonalLTV, u: Inexact[Array, "l *batch m"]) -> DiagonalLTV:
    """Return the system with one input, constantly 1, whose output is that of ``sys`` along ``u``: its B[k] is B[k] u[k].

    Analyses of it are about what the tokens of ``u`` contribute, not about what any input of size 1 could.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.
    u
        The signal that drives the recurrence, (L, *batch, m): ``layer.core_input(u)``.

    Returns
    -------
    DiagonalLTV
        The system (Lambda[k], B[k] u[k], C[k], D[k] u[k]).

    Raises
    ------
    ValueError
        If ``u`` does not have the shape (L, *batch, m) of the system.

    Examples
    --------
    >>> from ssm_analysis.analyses.along import driven_by
    >>> one = np.ones((2, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.log([[0.1], [0.5]]), B=one, C=one, D=0 * one)
    >>> driven_by(sys, np.array([[3.0], [4.0]])).B[:, 0, 0]
    array([3., 4.])
    """
    check_system(sys, DiagonalLTV, "driven_by")
    check_library(sys, "u", u)
    wanted = (sys.length, *sys.batch_shape, sys.ninputs)
    if tuple(u.shape) != wanted:
        raise ValueError(f"u must have shape {wanted}, (L, *batch, m) of the system, as layer.core_input(u) has it, got {tuple(u.shape)}")
    return replace(sys, B=matmul(sys.B, u[..., None]), D=matmul(sys.D, u[..., None]))


def log_products(mu: Inexact[Array, "l *batch n"]) -> Inexact[Array, "l *batch n"]:
    """Return mu[s+1] + ... + mu[l-1] for every s, 0 for the last: summed from the end, each accurate to its own size."""
    xp = array_namespace(mu)
    if mu.shape[0] == 1:
        return xp.zeros_like(mu)
    if math.prod(mu.shape[1:]) >= WIDE:
        sums = itertools.accumulate(reversed(xp.unstack(mu[1:, ...])), operator.add)
        return xp.stack([*reversed(list(sums)), xp.zeros_like(mu[0, ...])])
    return xp.flip(xp.cumulative_sum(xp.flip(mu[1:, ...], axis=0), axis=0, include_initial=True), axis=0)


def operator_row(sys: DiagonalLTV, t: int) -> Inexact[Array, "t *batch p m"]:
    """Return what u[0], ..., u[t] are multiplied by on their way to y[t]: C[t] Phi(t, s+1) B[s] for s < t, and D[t]."""
    xp, last = sys.xp, sys.D[t : t + 1, ...]
    if t == 0:
        return last
    seen = sys.C[t, ...] * xp.exp(log_products(sys.log_poles[:t, ...]))[..., None, :]  # C Phi, (t, *batch, p, n)
    B = sys.B[:t, ...]
    if sys.ninputs == 1:  # far cheaper than many products with a column
        return xp.concat([xp.sum(seen * B[..., None, :, 0], axis=-1)[..., None], last])
    return xp.concat([matmul(seen, B), last])


def checked_steps(sys: DiagonalLTV, at: Sequence[int]) -> list[int]:
    """Return the steps of ``at``, counted from 0, after checking that the system has them; negative ones count from its end."""
    length = sys.length
    steps = list(at) if isinstance(at, Sequence) else []
    if not steps or any(not isinstance(t, Integral) or isinstance(t, bool) or not -length <= t < length for t in steps):
        raise ValueError(f"at must hold steps of the system, integers of 0..{length - 1} or from its end -1..{-length}, got {at!r}")
    return [int(t) % length for t in steps]
