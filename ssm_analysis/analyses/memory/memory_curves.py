r"""What a state can recall, and how many states that takes: Lemma 2.2 of arXiv 2403.16899 completed.

White noise in; the best linear guess of the input tau tokens ago from the present state explains the share MF(tau) of its
variance. For one input MF depends on the poles alone, and its sum over tau is the number of modes that the input reaches,
whatever the poles: a pole nearer to the circle does not add memory, it moves it to longer lags. The total is therefore
uninformative (Ballarin, Grigoryeva, Ortega, arXiv 2502.04832); look at the curve.

References
----------
Jaeger, Short term memory in echo state networks, GMD report 152 (2001); Ninness, Gustafsson, IEEE Trans. Automatic
Control 42 (1997) 515-521 (the orthonormal functions of given poles); Ballarin, Grigoryeva, Ortega, arXiv 2305.01457 (how
regression on P^-1 goes wrong).
"""

import math

import numpy as np
from jaxtyping import Bool, Complex, Float

from ssm_analysis.analyses.gramians.energy import kernel_energy
from ssm_analysis.analyses.gramians.hankel import hsv
from ssm_analysis.analyses.gramians.stability import made_stable
from ssm_analysis.analyses.responses.kernels import kernel, krylov
from ssm_analysis.analyses.spectrum.modes import rates
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import Array, abs2, adjoint, array_namespace, conj, device, diag, eye, imag, matmul, real, stop_gradient, to_complex

KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace)
BLOCK = 256
"""Lags whose states are formed at a time, so that memory stays bounded."""
OUTSIDE = 2.0
"""A pole that no stable system has marks a state of a full A that the input does not reach."""

Sections = tuple[Complex[Array, "*batch n"], Float[Array, "*batch n"], Bool[Array, "*batch n"]]
"""The poles lambda, 1 - |lambda|^2, and which of these modes count."""


def memory_function(sys: LTI, length: int) -> Float[Array, "*batch l"]:
    r"""Return the memory function MF(tau): the share of the variance of u[k - 1 - tau], white u, that the state x[k] explains.

    With P the controllability Gramian, MF(tau) = (A^tau b)* P^-1 A^tau b, but many a P cannot be inverted in 64 bits. The
    orthonormal functions phi_i of the poles, a cascade of all-pass sections, span what the state can express, so
    MF(tau) = sum_i |phi_i[tau]|^2. The state in control's convention has seen u[k-1] last: MF(0) is about that input.

    Modes that the input does not reach count for nothing, equal poles of a diagonal system for one. In a full A, what
    weighs less than n eps ||A|| in a step of the Krylov basis of b counts as not reached; its computed eigenvalues are
    together those of a matrix within rounding of A, so the curve is right even where none of them is (S4's HiPPO matrices).

    Parameters
    ----------
    sys
        A stable system with one input. A `RealDiagonalSSM` counts as its ``expand()``.
    length
        The number of lags tau = 0, ..., length - 1, in tokens.

    Returns
    -------
    Array
        MF(tau) of each system along the last axis, between 0 and 1.

    Raises
    ------
    ValueError
        If the system has several inputs or is not stable, or ``length`` is not a positive integer.

    References
    ----------
    Jaeger, GMD report 152 (2001) (the memory function); Ninness, Gustafsson, IEEE Trans. Automatic Control 42 (1997) 515-521 (the
    orthonormal functions).

    Examples
    --------
    >>> from ssm_analysis.analyses.memory.memory_curves import memory_function
    >>> one = np.ones((1, 1))
    >>> memory_function(DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one), 3)  # (1 - 1/4) / 4^tau
    array([0.75    , 0.1875  , 0.046875])
    """
    check_system(sys, KINDS, "memory_function")
    if sys.ninputs != 1:
        raise ValueError(
            f"memory_function is about one input, got {sys.ninputs}; pick one: replace(sys, B=sys.B[..., :1], D=sys.D[..., :1])"
        )
    _check_positive("length", length)
    sys = in_double(sys.expand() if isinstance(sys, RealDiagonalSSM) else sys)
    if bool(sys.xp.any(rates(sys.map(stop_gradient)) <= 0)):
        raise ValueError("memory_function needs stable systems, all |lambda| < 1: the state of another one has no stationary variance")
    sections = _reached_poles(sys) if isinstance(sys, StateSpace) else _reached_once(sys)
    states, step = krylov(*_orthonormal(*sections), BLOCK)
    curve = []
    for _ in range(-(-length // BLOCK)):
        curve.append(sys.xp.sum(abs2(states), axis=-2))
        states = matmul(step, states)
    return sys.xp.concat(curve, axis=-1)[..., :length]


def delay_fidelity(sys: LTI, delays: int) -> Float[Array, "*batch delays"]:
    """Return |K[d]|^2 / sum_k |K[k]|^2, the share of the variance of y, for white input, that is the input delayed by d tokens.

    It is 1 at d for a pure delay by d; a kernel smeared over w tokens reaches about 1/w. What the best read-out of the same
    state could do is `memory_function`.

    Parameters
    ----------
    sys
        A time-invariant system with one input and one output.
    delays
        The number of delays d = 0, ..., delays - 1, in tokens.

    Returns
    -------
    Array
        One share for each delay along the last axis, between 0 and 1; NaN where the kernel has no finite energy, or none at all.

    Raises
    ------
    ValueError
        If the system has several inputs or outputs, or ``delays`` is not a positive integer.

    References
    ----------
    Francois et al., arXiv 2502.09287: a state of size S keeps a delay K no sharper than about K/S tokens.

    Examples
    --------
    >>> from ssm_analysis.analyses.memory.memory_curves import delay_fidelity
    >>> one = np.ones((1, 1))
    >>> delay_fidelity(DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one), 3)
    array([0.    , 0.75  , 0.1875])
    """
    check_system(sys, KINDS, "delay_fidelity")
    if sys.ninputs != 1 or sys.noutputs != 1:
        raise ValueError(f"delay_fidelity is about one input and one output, got {sys.ninputs} and {sys.noutputs}")
    _check_positive("delays", delays)
    safe, growing = made_stable(in_double(sys))
    xp, energy = sys.xp, kernel_energy(safe)[..., None]
    answer = (energy > 0) & xp.isfinite(energy) & ~growing[..., None]
    share = abs2(kernel(safe, delays)[..., 0, 0]) / xp.where(answer, energy, xp.ones_like(energy))
    return xp.where(answer, share, xp.full_like(share, math.nan))


def effective_order(sys: LTI, *, share: float = 0.99) -> Float[Array, "*batch"]:
    """Return how many states carry the map: the smallest r with sigma_1 + ... + sigma_r >= share sum_i sigma_i.

    The sigma_i are the Hankel singular values.

    Parameters
    ----------
    sys
        A stable time-invariant system. States of a `RealDiagonalSSM` are counted in the real system, two for a pair.
    share
        The share of the sum of the Hankel singular values, between 0 and 1, both excluded.

    Returns
    -------
    Array
        The number r for each system; 0 where the system passes nothing on.

    Raises
    ------
    ValueError
        If ``share`` does not lie between 0 and 1, or a system is not stable.

    References
    ----------
    Forgione, Mejari, Piga, arXiv 2403.14833 (the decay of the Hankel singular values as the measure of a useful order).

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> float(effective_order(DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)))
    1.0
    """
    check_system(sys, KINDS, "effective_order")
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, both excluded, got {share}")
    sigma = stop_gradient(hsv(sys))
    xp = array_namespace(sigma)
    passed = xp.cumulative_sum(sigma, axis=sigma.ndim - 1)
    missing = xp.sum(xp.astype(passed < share * passed[..., -1:], sigma.dtype), axis=-1)
    return xp.where(passed[..., -1] > 0, missing + 1, xp.zeros_like(missing))


def _check_positive(name: str, value: int) -> None:
    """Raise an error unless the argument ``name`` is a positive integer."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer (tokens), got {value!r}")


def _reached_once(sys: DiagonalSSM) -> Sections:
    """Return the modes of a diagonal system that the input reaches, the first of equal poles only."""
    xp, n = sys.xp, sys.nstates
    reached = sys.B[..., 0] != 0
    decay, angle = real(sys.log_poles), imag(sys.log_poles)
    angle = xp.where(xp.abs(angle) == math.pi, xp.full_like(angle, math.pi), angle)
    same = (decay[..., :, None] == decay[..., None, :]) & (angle[..., :, None] == angle[..., None, :])
    index = xp.arange(n, device=device(sys.B))
    once = reached & ~xp.any(same & reached[..., None, :] & (index[None, :] < index[:, None]), axis=-1)
    return to_complex(sys.poles()), -xp.expm1(2 * decay), once


def _reached_poles(sys: StateSpace) -> Sections:
    """Return the eigenvalues of A on the space spanned by b, A b, A^2 b, ...

    With an orthonormal basis Q of that space Q* A Q is an unreduced Hessenberg matrix, in which equal eigenvalues are not
    separate modes but Jordan blocks, and count as often as they occur.
    """
    xp, basis = sys.xp, _krylov_basis(stop_gradient(sys.A), stop_gradient(sys.B))
    reached = xp.sum(abs2(basis), axis=-2) > 0.5
    mark = xp.where(reached, xp.zeros_like(real(sys.B[..., 0])), xp.full_like(real(sys.B[..., 0]), OUTSIDE))
    poles = to_complex(xp.linalg.eigvals(matmul(adjoint(basis), matmul(sys.A, basis)) + diag(mark)))
    return poles, 1 - abs2(poles), abs2(poles) < (1 + OUTSIDE**2) / 2


def _krylov_basis(A: Array, b: Array) -> Array:
    """Return orthonormal columns by Arnoldi's iteration, each orthogonalized twice; zero columns once the space is spanned."""
    xp, n = array_namespace(A, b), A.shape[-1]
    negligible = n * float(np.finfo(np.float64).eps) * xp.linalg.vector_norm(A, axis=(-2, -1), keepdims=True)
    q = b + 0 * A[..., :, :1]
    columns, limit = [], 0 * negligible
    for _ in range(n):
        for _ in range(2 if columns else 0):
            Q = xp.concat(columns, axis=-1)
            q = q - matmul(Q, matmul(adjoint(Q), q))
        size = xp.linalg.vector_norm(q, axis=(-2, -1), keepdims=True)
        more = size > limit
        columns.append(xp.where(more, q / xp.where(more, size, xp.ones_like(size)), xp.zeros_like(q)))
        q, limit = matmul(A, columns[-1]), negligible
    return xp.concat(columns, axis=-1)


def _orthonormal(
    poles: Complex[Array, "*batch n"], inside: Float[Array, "*batch n"], used: Bool[Array, "*batch n"]
) -> tuple[Complex[Array, "*batch n n"], Complex[Array, "*batch n 1"]]:
    """Return (A, b) of the cascade of all-pass sections (1 - conj(l) z) / (z - l), each with the state x_i: A A* + b b* = 1.

    Section i takes v_i: x_i' = l_i x_i + g_i v_i and hands on v_{i+1} = g_i x_i - conj(l_i) v_i, g_i^2 = 1 - |l_i|^2, which
    is ``inside``. Sections that are not used pass everything on.
    """
    xp, n = array_namespace(poles), poles.shape[-1]
    nothing = xp.zeros_like(poles)
    some = used & (inside > 0)  # an eigenvalue that rounding moved onto the circle: such a mode explains next to nothing
    gain = xp.where(some, xp.sqrt(xp.where(some, inside, xp.ones_like(inside))), xp.zeros_like(inside))
    through = xp.where(used, -conj(poles), nothing + 1)
    poles = xp.where(used, poles, nothing)
    rows, inputs = [], []
    state, direct = nothing, nothing[..., :1] + 1  # v_i = state . x + direct u
    unit = eye(n, like=poles)
    for i in range(n):
        e, g, t = unit[i, :], gain[..., i : i + 1], through[..., i : i + 1]
        rows.append(poles[..., i : i + 1] * e + g * state)
        inputs.append(g * direct)
        state, direct = g * e + t * state, t * direct
    return xp.stack(rows, axis=-2), xp.stack(inputs, axis=-2)
