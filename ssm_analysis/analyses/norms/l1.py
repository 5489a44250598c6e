r"""The l1 norm, the gain from the largest input to the largest output.

    max_p sum_m ( |D_pm| + sum_k |(C A^k B)_pm| ),

summed up to a length K, with a bound of the rest: for diagonal systems sum_i |c_i| |b_i| |l_i|^K / (1 - |l_i|); for a full
A by the inequality of Cauchy and Schwarz, as C A^k B = (C A^h)(A^h B) or (C A^h)(A^{h+1} B) with h = k // 2,

    sum_{k >= K} |c A^k b| <= 2 sqrt(c_h P c_h*) sqrt(b_h* Q b_h),   c_h = c A^{K/2}, b_h = A^{K/2} b,

where P and Q are the Gramians of unit B and C.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from ssm_analysis.analyses.gramians.gramians import solve_stein
from ssm_analysis.analyses.gramians.stability import KINDS, infinite_where, made_stable
from ssm_analysis.analyses.norms.system_norms import Bounds
from ssm_analysis.analyses.responses.gains import flattened
from ssm_analysis.analyses.responses.kernels import kernel
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import Array, adjoint, conj, device, eye, is_complex, matmul, real, stop_gradient, to_complex, to_numpy

FIRST = 2**10
"""Length of the shortest sum, in tokens."""
BLOCK = 2**20
"""Entries of the impulse response that are formed at a time."""
SHORTEST = 64
"""Length of the shortest of these blocks, in tokens."""
UNIT = 2.0**-53
"""Unit roundoff of 64-bit numbers."""

Gains = Float[Array, "s p m"]


def l1_norm(sys: LTI, *, rtol: float = 1e-9, max_length: int = 2**22) -> Float[Array, "*batch"]:
    r"""Return the l1 norm max_p sum_m sum_k |h_pm[k]|, the gain from sup |u| to sup |y|; infinite where a system is not stable.

    The induced l-infinity norm, or peak gain, for a batch; python-control has none. Differentiable.

    Parameters
    ----------
    sys
        A time-invariant system.
    rtol
        The size of the neglected rest, relative to the norm.
    max_length
        The longest impulse response to sum, in tokens.

    Returns
    -------
    Array
        The norm of each system, in units of output per input.

    Raises
    ------
    ValueError
        If the rest is not below ``rtol`` after ``max_length`` tokens, or one of the two is out of range.

    References
    ----------
    Dahleh, Diaz-Bobillo, Control of Uncertain Systems: A Linear Programming Approach (1995), section 2.2.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)
    >>> float(l1_norm(sys).round(6))
    2.0
    """
    check_system(sys, KINDS, "l1_norm")
    _check(rtol, max_length)
    stable, unstable = made_stable(in_double(sys))
    flat = flattened(stable)
    lengths, done = _lengths(flat.map(stop_gradient), rtol, max_length)
    if not done.all():
        raise ValueError(
            f"l1_norm needs an impulse response longer than max_length = {max_length} tokens for a relative accuracy of {rtol} "
            f"in {int((~done).sum())} of {len(done)} systems; raise max_length or rtol, or take l1_bounds, which are true at any length"
        )
    sums = _by_length(_sums, flat, lengths)
    return infinite_where(unstable, sys.xp.reshape(_largest_row(flat, sums), sys.batch_shape))


def l1_bounds(sys: DiagonalSSM | RealDiagonalSSM, *, rtol: float = 1e-6, max_length: int = 2**22) -> Bounds:
    """Return certified bounds of the l1 norm: a partial sum, and this sum plus bounds of the rest and of the rounding.

    True at any length; further apart than ``rtol`` where modes last longer than ``max_length`` tokens. For diagonal systems
    only: the rounding of the powers of a full A has no useful bound.

    Parameters
    ----------
    sys
        A time-invariant diagonal system.
    rtol
        The relative distance of the two bounds at which they are close enough.
    max_length
        The longest impulse response to sum, in tokens.

    Returns
    -------
    Bounds
        A lower and an upper bound for each system.

    Raises
    ------
    ValueError
        If ``rtol`` is not positive or ``max_length`` too small.

    References
    ----------
    Dahleh, Diaz-Bobillo, Control of Uncertain Systems: A Linear Programming Approach (1995), section 2.2 (the norm); the bounds of
    the rest and of the rounding are derived in this module.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> bounds = l1_bounds(DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one))
    >>> bool(bounds.lower <= 2 <= bounds.upper <= 2 * (1 + 1e-6))
    True
    """
    check_system(sys, (DiagonalSSM, RealDiagonalSSM), "l1_bounds")
    _check(rtol, max_length)
    stable, unstable = made_stable(in_double(sys.map(stop_gradient)))
    flat = flattened(stable)
    lengths, _ = _lengths(flat, 0.9 * rtol, max_length)
    sums, rest = _by_length(_sums, flat, lengths), _by_length(_tail, flat, lengths)
    rounding = _rounding(flat) + 2 * UNIT * (BLOCK + int(max(lengths, default=FIRST)) // FIRST) * sums
    bounds = (_largest_row(flat, sums - rounding), _largest_row(flat, sums + rest * (1 + 1e-9) + rounding))
    lower, upper = (infinite_where(unstable, sys.xp.reshape(x, sys.batch_shape)) for x in bounds)
    return Bounds(lower=lower, upper=upper)


def _check(rtol: float, max_length: int) -> None:
    """Raise an error unless both options are in range."""
    if not rtol > 0:
        raise ValueError(f"rtol must be a positive number, got {rtol}")
    if max_length < FIRST:
        raise ValueError(f"max_length must be at least {FIRST} tokens, got {max_length}")


def _lengths(sys: LTI, rtol: float, max_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return for each system a power of 2 after which the rest is below ``rtol``, and whether ``max_length`` allows it."""
    size = to_numpy(_largest_row(sys, _sums(sys, FIRST)))
    lengths, done, length = np.full(len(size), FIRST), np.zeros(len(size), dtype=bool), FIRST
    while True:
        lengths[~done] = length
        done |= to_numpy(_largest_row(replace(sys, D=0 * sys.D), _tail(sys, length))) <= rtol * size
        if done.all() or 2 * length > max_length:
            return lengths, done
        length *= 2


def _by_length(f: Callable[[LTI, int], Gains], sys: LTI, lengths: np.ndarray) -> Gains:
    """Return f(sys, length) with a length for each system, computed for all systems of one length together."""
    xp, where = sys.xp, device(sys.B)
    groups = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
    if len(groups) <= 1:
        return f(sys, int(max(lengths, default=FIRST)))
    parts = []
    for group in groups:
        index = xp.asarray(group, device=where)
        parts.append(f(sys.map(lambda x, index=index: xp.take(x, index, axis=0)), int(lengths[group[0]])))
    return xp.take(xp.concat(parts, axis=0), xp.asarray(np.argsort(np.concatenate(groups)), device=where), axis=0)


def _largest_row(sys: LTI, gains: Gains) -> Float[Array, " s"]:
    """Return the maximum over outputs of the sum over inputs of ``gains`` and |D|."""
    xp = sys.xp
    return xp.max(xp.sum(gains + xp.abs(sys.D), axis=-1), axis=-1)


def _sums(sys: LTI, length: int) -> Gains:
    """Return sum_k |C A^k B| over k < length, added in blocks each of which begins where the last one ended."""
    xp, block = sys.xp, length
    while block > SHORTEST and block * len(sys) * sys.ninputs * sys.noutputs > BLOCK:
        block //= 2
    total, advance = 0.0, _power(sys, block)
    for _ in range(length // block):
        total = total + xp.sum(xp.abs(kernel(sys, block + 1)[..., 1:, :, :]), axis=-3)
        sys = replace(sys, C=matmul(sys.C, advance) if isinstance(sys, StateSpace) else _times(sys.C, advance))
    return total


def _power(sys: LTI, k: int) -> Array:
    """Return A^k for k a power of 2; for a diagonal system the diagonal of A^k as a row."""
    if not isinstance(sys, StateSpace):
        return sys.xp.exp(k * sys.log_poles)[..., None, :]
    power = sys.A
    for _ in range(k.bit_length() - 1):
        power = sys.xp.matmul(power, power)
    return power


def _times(x: Array, y: Array) -> Array:
    """Return x y, both complex if one is."""
    return x * y if is_complex(x) == is_complex(y) else to_complex(x) * to_complex(y)


def _tail(sys: LTI, length: int) -> Gains:
    """Bound the sum of |C A^k B| over k >= length."""
    xp = sys.xp
    if isinstance(sys, StateSpace):
        half, one = _power(sys, length // 2), eye(sys.nstates, like=sys.A) + 0 * sys.A
        C, B = matmul(sys.C, half), matmul(half, sys.B)
        c = real(xp.sum(matmul(C, solve_stein(sys.A, one)) * conj(C), axis=-1))
        b = real(xp.sum(conj(B) * matmul(solve_stein(adjoint(sys.A), one), B), axis=-2))
        return 2 * xp.sqrt(c)[..., :, None] * xp.sqrt(b)[..., None, :]
    decay = real(sys.log_poles)
    weight = xp.exp(length * decay) / -xp.expm1(decay)
    return xp.matmul(xp.abs(sys.C) * weight[..., None, :], xp.abs(sys.B))


def _rounding(sys: DiagonalSSM | RealDiagonalSSM) -> Gains:
    """Bound the rounding in all C A^k B together: each exponent k mu and each sum of n terms is rounded.

    sum_k |l|^k = 1 / (1 - |l|) and sum_k k |l|^k = |l| / (1 - |l|)^2.
    """
    xp, decay = sys.xp, real(sys.log_poles)
    lasting = 1 / -xp.expm1(decay)
    weight = (16 + 2 * sys.nstates) * lasting + 8 * xp.abs(sys.log_poles) * lasting * lasting
    return UNIT * xp.matmul(xp.abs(sys.C) * weight[..., None, :], xp.abs(sys.B))
