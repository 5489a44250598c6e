r"""What the past writes into the state of a time-varying system, what the future reads of it, and what passes through.

At time t, between u[0..t-1] and y[t..L-1], of a window of L tokens:

    P[t] = sum_{s < t} Phi(t, s+1) B[s] B[s]* Phi(t, s+1)*,     P[t+1] = Lambda[t] P[t] Lambda[t]* + B[t] B[t]*,
    Q[t] = sum_{k >= t} Phi(k, t)* C[k]* C[k] Phi(k, t),        Q[t] = Lambda[t]* Q[t+1] Lambda[t] + C[t]* C[t].

The block T[t:, :t] of the operator maps that past to that future through n states: it is O R with P = R R*, Q = O* O. Its
singular values are found from n x n factors, and the block itself, (L - t) p x t m, is never formed.

References
----------
van der Veen, Dewilde, On low-complexity approximation of matrices, Linear Algebra Appl. 205/206 (1994) 1145-1202 (Hankel
operators of time-varying systems).
"""

from collections.abc import Iterator, Sequence
from numbers import Integral

from jaxtyping import Float, Inexact

from ssm_analysis.analyses.along.transitions import adjoint_system, log_products
from ssm_analysis.systems import DiagonalLTV
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import Array, adjoint, array_namespace, matmul


def controllability_gramian_at(sys: DiagonalLTV, at: int) -> Inexact[Array, "*batch n n"]:
    """Return P[t], the covariance of the state x[t] that white input u[0..t-1] leaves, from x[0] = 0, for t = ``at``.

    For a constant stable system it is `controllability_gramian` but for the input before the window. It always exists.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.
    at
        The time t, from 0 to L.

    Returns
    -------
    Array
        P[t] of each system, in squared units of the state.

    Raises
    ------
    ValueError
        If ``at`` does not lie in 0..L.

    References
    ----------
    van der Veen, Dewilde, Linear Algebra Appl. 205/206 (1994) 1145-1202 (Gramians of time-varying systems).

    Examples
    --------
    >>> from ssm_analysis.analyses.along import controllability_gramian_at
    >>> one = np.ones((2, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.log([[0.1], [0.5]]), B=one, C=one, D=one)
    >>> controllability_gramian_at(sys, 2)
    array([[1.25]])
    """
    check_system(sys, DiagonalLTV, "controllability_gramian_at")
    sys = in_double(sys)
    _check_time(sys, at)
    if at == 0:
        return 0 * matmul(sys.B[0, ...], adjoint(sys.B[0, ...]))
    R = _reached(sys, 0, at)
    return matmul(R, adjoint(R))


def observability_gramian_at(sys: DiagonalLTV, at: int) -> Inexact[Array, "*batch n n"]:
    """Return Q[t], with which x* Q[t] x is the energy of y[t..L-1] from x[t] = x without input, for t = ``at``.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.
    at
        The time t, from 0 to L.

    Returns
    -------
    Array
        Q[t] of each system.

    Raises
    ------
    ValueError
        If ``at`` does not lie in 0..L.

    References
    ----------
    van der Veen, Dewilde, Linear Algebra Appl. 205/206 (1994) 1145-1202 (Gramians of time-varying systems).

    Examples
    --------
    >>> from ssm_analysis.analyses.along import observability_gramian_at
    >>> one = np.ones((2, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.log([[0.1], [0.5]]), B=one, C=one, D=one)
    >>> observability_gramian_at(sys, 0).round(6)  # 1 + 0.1^2
    array([[1.01]])
    """
    check_system(sys, DiagonalLTV, "observability_gramian_at")
    _check_time(sys, at)
    return controllability_gramian_at(adjoint_system(sys), sys.length - at)


def hsv_at(sys: DiagonalLTV, at: Sequence[int]) -> Float[Array, "q *batch n"]:
    """Return the singular values sqrt(eig(P[t] Q[t])) of the operator from u[0..t-1] to y[t..L-1], decreasing, for t in ``at``.

    They are accurate to rounding of the largest. Their gradients need full rank.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.
    at
        Times t from 1 to L-1, so that each has a past and a future.

    Returns
    -------
    Array
        n values for each time, in units of output per input; zero beyond the smallest of n, t m and (L - t) p.

    Raises
    ------
    ValueError
        If ``at`` is empty or a time does not lie in 1..L-1.

    References
    ----------
    van der Veen, Dewilde, Linear Algebra Appl. 205/206 (1994) 1145-1202 (Hankel operators of time-varying systems).

    Examples
    --------
    >>> from ssm_analysis.analyses.along import hsv_at
    >>> one = np.ones((2, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.log([[0.1], [0.5]]), B=one, C=one, D=one)
    >>> hsv_at(sys, (1,)).round(6)
    array([[1.]])
    """
    check_system(sys, DiagonalLTV, "hsv_at")
    sys, times = in_double(sys), interior_times(sys, at)
    xp, order = sys.xp, sorted(set(times))
    past = _past_factors(sys, order)
    future = reversed(list(_past_factors(adjoint_system(sys), [sys.length - t for t in reversed(order)])))
    values = {}
    for t, F, G in zip(order, past, future, strict=True):
        sigma = xp.linalg.svdvals(matmul(adjoint(G), F))
        missing = xp.zeros_like(sigma[..., :1])
        values[t] = xp.concat([sigma, *[missing] * (sys.nstates - sigma.shape[-1])], axis=-1)
    return xp.stack([values[t] for t in times])


def interior_times(sys: DiagonalLTV, at: Sequence[int]) -> list[int]:
    """Return the times of ``at`` as a list, after checking that each has a past and a future."""
    times = list(at) if isinstance(at, Sequence) else []
    if not times or any(not isinstance(t, Integral) or isinstance(t, bool) or not 1 <= t < sys.length for t in times):
        raise ValueError(f"at must hold times with a past and a future, integers from 1 to {sys.length - 1}, got {at!r}")
    return [int(t) for t in times]


def _past_factors(sys: DiagonalLTV, times: Sequence[int]) -> Iterator[Inexact[Array, "*batch n k"]]:
    """Yield F with F F* = P[t] and at most n columns, for increasing times t."""
    xp, before, F = sys.xp, 0, None
    for t in times:
        new = _reached(sys, before, t)
        if F is not None:
            decayed = xp.exp(xp.sum(sys.log_poles[before:t, ...], axis=0))[..., None] * F
            new = xp.concat([decayed, new], axis=-1)
        F, before = _compressed(new), t
        yield F


def _reached(sys: DiagonalLTV, start: int, stop: int) -> Inexact[Array, "*batch n k"]:
    """Return the columns Phi(stop, s+1) B[s] for s in start..stop-1: what unit inputs at these steps leave in x[stop]."""
    xp = sys.xp
    columns = xp.exp(log_products(sys.log_poles[start:stop, ...]))[..., None] * sys.B[start:stop, ...]
    columns = xp.moveaxis(columns, 0, -2)  # (*batch, n, s, m)
    return xp.reshape(columns, (*columns.shape[:-2], -1))


def _compressed(F: Inexact[Array, "*batch n k"]) -> Inexact[Array, "*batch n k2"]:
    """Return F times a unitary matrix, with at most n columns."""
    return F if F.shape[-1] <= F.shape[-2] else adjoint(array_namespace(F).linalg.qr(adjoint(F))[1])


def _check_time(sys: DiagonalLTV, at: int) -> None:
    """Raise an error unless ``at`` is one of the times 0..L."""
    if not isinstance(at, int) or isinstance(at, bool) or not 0 <= at <= sys.length:
        raise ValueError(f"at must be an integer from 0 to {sys.length}, the number of tokens, got {at!r}")
