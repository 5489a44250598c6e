r"""How far A is from normal, and what its powers may do before its eigenvalues decide.

Eigenvalues describe ||A^k|| for normal A only, where it is rho(A)^k; diagonal systems are normal. In general, with the
Kreiss constant K = sup_{|z| > 1} (|z| - 1) ||(z - A)^{-1}||,

    K <= max_k ||A^k|| <= e n K,      ||A^k|| <= kappa(V) rho^k,      ||A^k|| <= 2 r(A)^k,

with the condition number kappa(V) of the eigenvectors and the numerical radius r(A) = max |x* A x| / x* x. HiPPO-LegS has
kappa(V) > 1e47 at n = 64 and yet ||A|| < 1 after the bilinear rule: far from normal in its eigenvectors, a contraction in norm.

References: Trefethen, Embree, Spectra and Pseudospectra (Princeton 2005), chapters 14 to 18; Spijker, BIT 31 (1991) 551-555
(the constant e n); Pearcy, Michigan Math. J. 13 (1966) 289-291 (the powers of the numerical radius).
"""

import math
import operator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex, Float, Inexact, Int

from ssm_analysis.analyses.nonnormal.pseudospectra import BLOCK, grid_epsilon, reciprocal, smallest_singular_values
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import (
    Array,
    abs2,
    array_namespace,
    device,
    eye,
    is_complex,
    real,
    stop_gradient,
    to_complex,
    to_numpy,
)

KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace)
HUGE = 1e150
"""Powers of A of this norm count as unbounded; the product of two of them is still a finite double."""
REFINEMENTS = 12
"""Halvings of the 5 x 5 grid about the best point: 2^-12 of its scale, and at a maximum the error is the square of that."""
SLACK = 1e-9
"""Powers that could only be larger than the largest one met by this factor are not looked for: rounding makes them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TransientGrowth:
    """The largest power of A.

    Parameters
    ----------
    growth
        max ||A^k||_2, dimensionless, at least ||A^0|| = 1; infinite above 1e150.
    step
        The k at which it is attained, tokens.
    contraction_step
        A power 2^s with ||A^(2^s)|| < 1, from which on nothing larger can follow, since ||A^(j q + r)|| <= ||A^j||^q ||A^r||:
        ``growth`` is the supremum over all k. 0 where none was met up to ``length``; then later powers are unknown.
    """

    growth: Float[Array, "*batch"]
    step: Int[Array, "*batch"]
    contraction_step: Int[Array, "*batch"]


@dataclass(frozen=True, eq=False, kw_only=True)
class KreissConstant:
    """Bounds of K = sup_{|z| > 1} (|z| - 1) ||(z - A)^{-1}||.

    Parameters
    ----------
    lower
        The largest value met: at ``z``, or 1, the limit of |z| toward infinity, or max_k ||A^k|| / (e n). Infinite where an
        eigenvalue lies outside the unit circle by more than rounding.
    upper
        max_k ||A^k|| where that is known for all k, otherwise infinite.
    z
        Where (|z| - 1) ||(z - A)^{-1}|| was largest; infinite for diagonal systems, whose K is approached there.
    """

    lower: Float[Array, "*batch"]
    upper: Float[Array, "*batch"]
    z: Complex[Array, "*batch"]


@dataclass(frozen=True, eq=False, kw_only=True)
class EigenvalueConditions:
    """Eigenvalues and by how much a change of A, in norm, is amplified in each of them.

    Parameters
    ----------
    poles
        Eigenvalues of A.
    conditions
        ||x|| ||y|| / |y* x| of right and left eigenvector, in the same order; 1 for normal A, infinite for a defective one.
        Beyond 1e16 / ||A|| it says "at least that": the eigenvalue has no correct digit.
    """

    poles: Inexact[Array, "*batch n"]
    conditions: Float[Array, "*batch n"]


def transient_growth(sys: LTI, *, length: int = 2**14) -> TransientGrowth:
    r"""Return max over k <= length of ||A^k||_2, over all k where a power has norm below 1.

    How much larger than at the start a state can become on the way. Squaring finds a contraction in log(k) steps; within it,
    ||A^(a + b)|| <= ||A^a|| ||A^b|| rules out whole ranges of powers, so few are formed. 1 at k = 0 for a stable diagonal
    system. Norms are computed in 64 bits without bounds of their rounding errors. Differentiable.

    Parameters
    ----------
    sys
        A time-invariant system; the analysis is of its A in the coordinates it has.
    length
        The last power looked at, tokens. Only a system that has not contracted by then is limited by it.

    Raises
    ------
    ValueError
        If ``length`` is not a positive integer.

    Examples
    --------
    >>> from ssm_analysis.analyses.nonnormal.conditions import transient_growth
    >>> sys = StateSpace(A=np.asarray([[0.5, 8.0], [0.0, 0.5]]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=np.zeros((1, 1)))
    >>> result = transient_growth(sys)
    >>> float(result.growth.round(4)), int(result.step), int(result.contraction_step)
    (8.0311, 1, 8)
    """
    check_system(sys, KINDS, "transient_growth")
    if not isinstance(length, int) or length < 1:
        raise ValueError(f"length must be a positive whole number of tokens, got {length!r}")
    sys = in_double(sys)
    return _dense_growth(sys, length) if isinstance(sys, StateSpace) else _diagonal_growth(sys, length)


def kreiss_constant(sys: LTI, *, length: int = 2**14) -> KreissConstant:
    r"""Return K = sup_{|z| > 1} (|z| - 1) ||(z - A)^{-1}||_2, enclosed: K <= max_k ||A^k|| <= e n K.

    1 for normal A with |lambda| <= 1. ``lower`` comes from a grid in angle and log(|z| - 1) that knows the angles of the eigenvalues,
    refined about its best point; it is a value of the function, so a bound whatever the grid missed. Differentiable.

    Parameters
    ----------
    sys
        A time-invariant system; the analysis is of its A in the coordinates it has.
    length
        Passed on to `transient_growth`, which gives ``upper``.

    Raises
    ------
    ValueError
        If ``length`` is not a positive integer.

    References
    ----------
    Kreiss, BIT 2 (1962) 153-181; Trefethen, Embree (2005), section 18.
    """
    check_system(sys, KINDS, "kreiss_constant")
    growth = transient_growth(sys, length=length)
    sys = in_double(sys)
    if not isinstance(sys, StateSpace):
        return _diagonal_kreiss(sys)
    xp = sys.xp
    z = _kreiss_points(stop_gradient(sys.A))
    rounding = sys.nstates * xp.finfo(xp.float64).eps * (_norm2(stop_gradient(sys.A)) + xp.abs(z))
    reached = (xp.abs(z) - 1) / (smallest_singular_values(sys.A, z[..., None])[..., 0] + rounding)
    infinite = xp.full_like(reached, math.inf)
    known = xp.where(growth.growth < HUGE, growth.growth, xp.full_like(reached, HUGE))
    lower = xp.maximum(xp.maximum(reached, known / (math.e * sys.nstates)), xp.ones_like(reached))
    upper = xp.where(growth.contraction_step > 0, growth.growth, infinite)
    return KreissConstant(lower=xp.where(_has_outer_pole(sys), infinite, lower), upper=upper, z=z)


def eigenvector_condition(sys: LTI) -> Float[Array, "*batch"]:
    r"""Return kappa_2(V) = ||V|| ||V^{-1}|| for unit eigenvectors: ||A^k|| <= kappa rho^k, and an eigenvalue moves by <= kappa ||change
    of A||.

    1 for diagonal systems, infinite where the computed eigenvectors are dependent. Among all scalings of the eigenvectors, unit
    ones come within sqrt(n) of the smallest condition. Beyond 1e15 it says "at least that". `Spectrum.condition` has Frobenius norms
    instead, n for orthonormal eigenvectors, and lies between this and n times this.

    References
    ----------
    Bauer, Fike, Numer. Math. 2 (1960) 137-141; van der Sluis, Numer. Math. 14 (1969) 14-23 (the scaling).
    """
    check_system(sys, KINDS, "eigenvector_condition")
    sys = in_double(sys)
    xp = sys.xp
    if not isinstance(sys, StateSpace):
        return 1 + 0 * real(sys.log_poles)[..., 0]
    s = xp.linalg.svdvals(_unit_eigenvectors(sys)[1])
    return s[..., 0] * reciprocal(s[..., -1])


def eigenvalue_conditions(sys: LTI) -> EigenvalueConditions:
    r"""Return ||x_i|| ||y_i|| / |y_i* x_i| for each eigenvalue: how far a change of A of norm epsilon moves it, to first order.

    Same as MATLAB's ``condeig``, for a batch.

    References
    ----------
    Wilkinson, The Algebraic Eigenvalue Problem (Oxford 1965), chapter 2.

    Examples
    --------
    >>> from ssm_analysis.analyses.nonnormal.conditions import eigenvalue_conditions
    >>> sys = StateSpace(A=np.asarray([[0.5, 3.0], [0.0, -0.5]]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=np.zeros((1, 1)))
    >>> eigenvalue_conditions(sys).conditions.round(4)  # sqrt(1 + 3**2)
    array([3.1623, 3.1623])
    """
    check_system(sys, KINDS, "eigenvalue_conditions")
    sys = in_double(sys)
    if not isinstance(sys, StateSpace):
        whole = sys.expand() if isinstance(sys, RealDiagonalSSM) else sys
        return EigenvalueConditions(poles=whole.poles(), conditions=1 + 0 * real(whole.log_poles))
    xp = sys.xp
    poles, V = _unit_eigenvectors(sys)
    _, s, right = xp.linalg.svd(V, full_matrices=False)
    floor = xp.asarray(1 / HUGE, dtype=s.dtype, device=device(s))
    inverse = 1 / xp.maximum(s, floor)
    rows = xp.sqrt(xp.sum(abs2(right) * (inverse * inverse)[..., None], axis=-2))  # of V^{-1} = right* s^{-1} U*
    return EigenvalueConditions(poles=poles, conditions=xp.where(rows > 1e-10 * HUGE, xp.full_like(rows, math.inf), rows))


def _diagonal_growth(sys: DiagonalSSM | RealDiagonalSSM, length: int) -> TransientGrowth:
    """Return ||A^k|| = rho^k: largest at k = 0, or at the end where it grows."""
    xp = sys.xp
    rate = xp.max(real(sys.log_poles), axis=-1)
    steps = length * xp.astype(rate > 0, xp.int64)
    exponent = rate * xp.astype(steps, rate.dtype)
    finite = exponent < math.log(HUGE)
    growth = xp.where(finite, xp.exp(xp.where(finite, exponent, xp.zeros_like(rate))), xp.full_like(rate, math.inf))
    return TransientGrowth(growth=growth, step=steps, contraction_step=xp.astype(rate < 0, xp.int64))


def _dense_growth(sys: StateSpace, length: int) -> TransientGrowth:
    """Return the searches run system by system, each with its own powers (0.2 ms for a contraction at n = 64); the values at once."""
    xp, n = sys.xp, sys.nstates
    flat = xp.reshape(sys.A, (-1, n, n))
    found = [_search_powers(stop_gradient(flat)[i, ...], length) for i in range(flat.shape[0])]
    steps = np.asarray([step for step, _ in found])
    step, contraction = (xp.asarray(x, device=device(flat)) for x in (steps, np.asarray([c for _, c in found])))
    largest = _norm2(_powers(flat, steps))
    growth = xp.where(largest < HUGE, largest, xp.full_like(largest, math.inf))
    shape = sys.batch_shape
    return TransientGrowth(growth=xp.reshape(growth, shape), step=xp.reshape(step, shape), contraction_step=xp.reshape(contraction, shape))


def _search_powers(A: Inexact[Array, "n n"], length: int) -> tuple[int, int]:
    """Return (k of the largest ||A^k||, the power 2^s of norm < 1 or 0)."""
    xp = array_namespace(A)
    rounding = A.shape[-1] * np.finfo(np.float64).eps
    squares, maxima, best, step = [A], [1.0], 1.0, 0  # maxima[s] = max ||A^k|| over k < 2^s
    for s in range(length.bit_length()):
        norm = float(_norm2(squares[s]))
        if norm < 1 - 2**s * rounding:  # each squaring doubles the relative error
            return step, 2**s
        best, step = _largest_between(squares, maxima, (norm, 2**s) if norm > best else (best, step), length)
        if best > HUGE:
            break
        maxima.append(best)
        squares.append(xp.matmul(squares[s], squares[s]))
    return step, 0


def _largest_between(squares: list[Array], maxima: list[float], best: tuple[float, int], length: int) -> tuple[float, int]:
    """Return the larger of ``best`` and max ||A^k|| over 2^s < k < 2^(s+1), k <= length, for s = len(squares) - 1.

    A range k = a, ..., a + 2^j - 1 is dropped where ||A^a|| max_{i < 2^j} ||A^i|| cannot exceed ``best``, else halved.
    """
    xp, n = array_namespace(squares[0]), squares[0].shape[-1]
    top, block = len(squares) - 1, max(1, BLOCK // n**2)
    P = squares[top][None, :, :]
    stack = [(top, P, np.asarray([2**top]), to_numpy(_norm2(P)))]
    while stack:
        level, P, starts, norms = stack.pop()
        kept = np.flatnonzero((norms * maxima[level] > best[0] * (1 + SLACK)) & (starts < length))
        if level == 0 or len(kept) == 0:
            continue
        P, starts, norms = xp.take(P, xp.asarray(kept, device=device(P)), axis=0), starts[kept], norms[kept]
        Q, later = xp.matmul(P, squares[level - 1]), starts + 2 ** (level - 1)
        new = np.where(later <= length, to_numpy(_norm2(Q)), 0)
        best = max(best, (float(np.max(new)), int(later[np.argmax(new)])), key=operator.itemgetter(0))
        P, starts, norms = xp.concat([P, Q]), np.concatenate([starts, later]), np.concatenate([norms, new])
        for i in range(0, len(norms), block):
            j = min(i + block, len(norms))
            stack.append((level - 1, P[i:j, ...], starts[i:j], norms[i:j]))
    return best


def _powers(A: Inexact[Array, "s n n"], steps: Int[np.ndarray, "s"]) -> Inexact[Array, "s n n"]:
    """Return A^step, each system with its own step, by squaring as far as it needs."""
    xp = array_namespace(A)
    result = xp.broadcast_to(eye(A.shape[-1], like=A), A.shape) + 0 * A
    for bit in range(int(np.max(steps)).bit_length()):
        now, more = (xp.asarray(x, device=device(A))[:, None, None] for x in ((steps >> bit) & 1 == 1, (steps >> bit) > 1))
        result = xp.where(now, xp.matmul(result, A), result)
        A = xp.where(more, A, xp.zeros_like(A))
        A = xp.matmul(A, A)
    return result


def _unit_eigenvectors(sys: StateSpace) -> tuple[Inexact[Array, "*batch n"], Inexact[Array, "*batch n n"]]:
    poles, V = sys.xp.linalg.eig(sys.A)
    return poles, V / sys.xp.linalg.vector_norm(V, axis=-2, keepdims=True)


def _has_outer_pole(sys: StateSpace) -> Bool[Array, "*batch"]:
    """Return whether a computed eigenvalue is farther outside the unit circle than its error, to first order, can explain."""
    xp = sys.xp
    eigenvalues = eigenvalue_conditions(sys.map(stop_gradient))
    error = eigenvalues.conditions * (sys.nstates * xp.finfo(xp.float64).eps * _norm2(stop_gradient(sys.A)))[..., None]
    return xp.any(xp.abs(eigenvalues.poles) > 1 + error, axis=-1)


def _diagonal_kreiss(sys: DiagonalSSM | RealDiagonalSSM) -> KreissConstant:
    """Return 1 for |z| toward infinity, and |z - lambda| >= |z| - 1 where |lambda| <= 1."""
    xp = sys.xp
    rate = xp.max(real(sys.log_poles), axis=-1)
    K = xp.where(rate <= 0, 1 + 0 * rate, xp.full_like(rate, math.inf))
    return KreissConstant(lower=K, upper=K, z=xp.full_like(to_complex(rate), complex(math.inf)))


def _norm2(A: Inexact[Array, "*batch n n"]) -> Float[Array, "*batch"]:
    return array_namespace(A).linalg.svdvals(A)[..., 0]


def _kreiss_points(A: Inexact[Array, "*batch n n"]) -> Complex[Array, "*batch"]:
    """Return where (|z| - 1) / sigma_min(z - A) is largest, as far as a grid and its refinement tell. System by system, as their grids
    differ."""
    xp, n = array_namespace(A), A.shape[-1]
    flat = xp.reshape(A, (-1, n, n))
    starts = [_kreiss_start(flat[i, ...]) for i in range(flat.shape[0])]
    angle, log_excess = (np.asarray(x)[:, None] for x in zip(*starts, strict=True))
    across, along = (x.ravel() for x in np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 5)))
    reach = 1.0
    for _ in range(REFINEMENTS):
        excess = np.exp(log_excess + reach * along)
        z = (1 + excess) * np.exp(1j * (angle + reach * across * np.minimum(np.exp(log_excess), 1)))
        height = excess / to_numpy(smallest_singular_values(flat, xp.asarray(z, device=device(flat))))
        k = np.argmax(height, axis=-1)[:, None]
        log_excess, angle = (np.take_along_axis(x, k, axis=-1) for x in (np.log(excess), np.angle(z)))
        reach /= 2
    best = xp.asarray(((1 + np.exp(log_excess)) * np.exp(1j * angle))[:, 0], device=device(flat))
    return xp.reshape(best, A.shape[:-2])


def _kreiss_start(A: Inexact[Array, "n n"]) -> tuple[float, float]:
    """Return (arg z, log(|z| - 1)) of the best point of a grid: the angles of the eigenvalues and 32 more, 24 distances from the circle."""
    xp = array_namespace(A)
    eigenvalues = to_numpy(xp.linalg.eigvals(A))
    nearest = np.min(np.abs(1 - np.abs(eigenvalues)))
    excess = np.geomspace(min(1e-2, max(1e-7, nearest / 10)), 4 * (1 + float(_norm2(A))), 24)
    angle = np.concatenate([np.angle(eigenvalues), np.linspace(-math.pi, math.pi, 32, endpoint=False)])
    angle = np.unique(np.abs(angle)) if not is_complex(A) else angle  # of a real A the conjugates repeat
    z = (1 + excess) * np.exp(1j * angle[:, None])
    epsilon = to_numpy(grid_epsilon(A, xp.asarray(z.ravel(), device=device(A)))).reshape(z.shape)
    epsilon = epsilon + np.finfo(np.float64).eps * excess[-1]  # below it a singular value is rounding noise
    i, k = np.unravel_index(np.argmax(excess / epsilon), z.shape)
    return float(angle[i]), math.log(excess[k])
