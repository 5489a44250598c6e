r"""Resolvent norms ||(z - A)^{-1}||_2 and pseudospectra {z : ||(z - A)^{-1}|| >= 1 / epsilon}.

epsilon(z) = sigma_min(z - A) = 1 / ||(z - A)^{-1}|| is the norm of the smallest change of A that makes z an eigenvalue.
A normal A has epsilon(z) = its distance from z to the eigenvalues; where epsilon is much smaller than that, the eigenvalues
say little about A.

Single points are computed from singular values. A grid uses one Schur form and inverse Lanczos iteration for all its
points at once: one step is two triangular solves, so a point costs O(n^2) instead of O(n^3).

References: Trefethen, Acta Numerica 8 (1999) 247-295, sections 6 and 7; Trefethen, Embree, Spectra and Pseudospectra
(Princeton 2005), chapter 39.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Complex, Float, Inexact

from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import (
    Array,
    abs2,
    adjoint,
    array_namespace,
    conj,
    device,
    diag,
    double,
    eye,
    is_array,
    matmul,
    stop_gradient,
    to_complex,
    to_numpy,
)

KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace)
BLOCK = 2**18
"""Numbers in work at a time: they stay in the cache, and memory stays bounded."""
CHECKS = (3, 5, 8, 12, 18, 27)
"""Numbers of Lanczos steps after which converged points leave; a check costs as much as a few steps, so checks thin out.
Points that are left after the last one, where singular values lie close together or overflow, go to the singular values."""
RESIDUAL = 1e-5
"""Residual of the largest Ritz value, relative to it, at which Lanczos leaves a point. The square of it is what an isolated value
then has as relative error; measured on random, orthogonal, Jordan and HiPPO matrices of order 16 to 128: at most 1e-8."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pseudospectrum:
    """How close A is to having each point of a grid as an eigenvalue.

    Parameters
    ----------
    z
        The points.
    epsilon
        1 / ||(z - A)^{-1}||_2 at each of them; 0 on an eigenvalue. The epsilon-pseudospectrum is where it is below epsilon.
        Below 1e-16 ||A|| it is rounding noise, for any method that knows A to 16 digits.
    poles
        Eigenvalues of A.
    """

    z: Complex[Array, "*points"]
    epsilon: Float[Array, "..."]
    poles: Inexact[Array, "*batch n"]


def resolvent_norm(sys: LTI, z: complex | Inexact[Array, "..."]) -> Float[Array, "..."]:
    r"""Return ||(z - A)^{-1}||_2, shape (*batch, *z.shape); infinite on an eigenvalue.

    For a diagonal system 1 / min |z - lambda_i|, otherwise 1 / sigma_min(z - A). Differentiable.

    Parameters
    ----------
    sys
        A time-invariant system. A `RealDiagonalSSM` stands for its whole real system, whose poles are closed under
        conjugation.
    z
        A number, or an array of the library of the system.

    Raises
    ------
    TypeError
        If ``z`` is neither.

    Examples
    --------
    >>> from ssm_analysis.analyses.nonnormal.pseudospectra import resolvent_norm
    >>> one = np.ones((1, 1))
    >>> float(resolvent_norm(DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one), 1.0))
    2.0
    """
    check_system(sys, KINDS, "resolvent_norm")
    points = _points(z, like=sys.B)
    sys = in_double(sys)
    flat = sys.xp.reshape(points, (-1,))
    epsilon = smallest_singular_values(sys.A, flat) if isinstance(sys, StateSpace) else _distances(sys, flat)
    return sys.xp.reshape(reciprocal(epsilon), (*sys.batch_shape, *points.shape))


def pseudospectrum(sys: LTI, z: Inexact[Array, "..."]) -> Pseudospectrum:
    r"""Return epsilon(z) = 1 / ||(z - A)^{-1}||_2 on a grid, to six digits.

    What EigTool draws, for a batch. `square_grid` makes a grid that holds the unit circle and the poles. There are no
    gradients through a dense system's grid; `resolvent_norm` has them.

    Parameters
    ----------
    sys
        A time-invariant system.
    z
        Points, an array of any shape of the library of the system.

    Raises
    ------
    TypeError
        If ``z`` is not such an array.

    Examples
    --------
    >>> from ssm_analysis.analyses.nonnormal.pseudospectra import pseudospectrum
    >>> one = np.ones((1, 1))
    >>> sys = StateSpace(A=np.asarray([[0.0, 9.0], [0.0, 0.0]]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=0 * one)
    >>> pseudospectrum(sys, np.asarray([1.0, 9.0])).epsilon.round(4)  # of a normal A it would be 1 and 9
    array([0.1098, 5.5623])
    """
    check_system(sys, KINDS, "pseudospectrum")
    points = _points(z, like=sys.B)
    sys = in_double(sys)
    whole = sys.expand() if isinstance(sys, RealDiagonalSSM) else sys
    flat = sys.xp.reshape(points, (-1,))
    epsilon = _grid_epsilons(whole.A, flat) if isinstance(whole, StateSpace) else _distances(whole, flat)
    return Pseudospectrum(z=points, epsilon=sys.xp.reshape(epsilon, (*sys.batch_shape, *points.shape)), poles=whole.poles())


def square_grid(sys: LTI, *, points: int = 101) -> Complex[Array, "points points"]:
    """Return x + i y on a square about 0 that reaches a quarter beyond the unit circle and all poles; x along the last axis.

    Raises
    ------
    ValueError
        If ``points`` is not at least 2.
    """
    check_system(sys, KINDS, "square_grid")
    if points < 2:
        raise ValueError(f"points must be at least 2 along each axis, got {points}")
    xp = sys.xp
    radius = 1.25 * max(1.0, float(xp.max(xp.abs(stop_gradient(in_double(sys).poles())))))
    axis = xp.linspace(-radius, radius, points, dtype=xp.float64, device=device(sys.B))
    return axis[None, :] + 1j * axis[:, None]


def dplr_resolvent_norm(
    Lambda: Complex[Array, "*batch n"], P: Inexact[Array, "*batch n r"], z: complex | Inexact[Array, "..."]
) -> Float[Array, "..."]:
    r"""Return ||(z - A)^{-1}||_2 of A = Lambda - P P^*, without forming A: O(n r) for each point and Lanczos step. No gradients.

    By Woodbury's identity, with D = z - Lambda:  (D + P P^*)^{-1} = D^{-1} - D^{-1} P (1 + P^* D^{-1} P)^{-1} P^* D^{-1}.
    For the continuous matrix of S4's DPLR form; z is then a complex frequency, and the stable side is Re z < 0.

    Parameters
    ----------
    Lambda, P
        Diagonal and low-rank factor, shapes (*batch, n) and (*batch, n, r).
    z
        A number, or an array of their library, without a point of ``Lambda`` itself.

    Raises
    ------
    TypeError
        If ``z`` is not of the library of ``Lambda``.
    ValueError
        If the shapes do not fit, or ``z`` hits an entry of ``Lambda``, where Woodbury's identity has no meaning.

    References
    ----------
    Gu, Goel, Re, arXiv 2111.00396, section 3 (the form); Golub, Van Loan, Matrix Computations, 4th ed., section 2.1.4.

    Examples
    --------
    >>> from ssm_analysis.analyses.nonnormal.pseudospectra import dplr_resolvent_norm
    >>> float(dplr_resolvent_norm(np.asarray([-1.0 + 0j, -2.0]), np.zeros((2, 1)), 0.0).round(6))
    1.0
    """
    if P.ndim < 2 or Lambda.ndim < 1 or P.shape[:-1] != Lambda.shape:
        raise ValueError(f"P must have shape (*batch, n, r) with (*batch, n) = {tuple(Lambda.shape)} as in Lambda, got {tuple(P.shape)}")
    points = _points(z, like=Lambda)
    xp = array_namespace(Lambda)
    Lambda, P = (to_complex(double(stop_gradient(x))) for x in (Lambda, P))
    flat = xp.reshape(points, (-1,))
    distance = flat - Lambda[..., :, None]
    if bool(xp.any(distance == 0)):
        raise ValueError("z must not be an entry of Lambda, where Woodbury's identity has no meaning; move it by a rounding")
    flat_Lambda, flat_P = xp.reshape(Lambda, (-1, Lambda.shape[-1])), xp.reshape(P, (-1, *P.shape[-2:]))
    norms = [_dplr_norm(flat_Lambda[k, ...], flat_P[k, ...], flat) for k in range(flat_P.shape[0])]
    return xp.reshape(xp.stack(norms), (*Lambda.shape[:-1], *points.shape))


def _grid_epsilons(A: Inexact[Array, "*batch n n"], z: Complex[Array, "g"]) -> Float[Array, "*batch g"]:
    """Work system by system, for LAPACK's Schur form takes one matrix at a time; the points of each are worked on together."""
    xp, n = array_namespace(A), A.shape[-1]
    flat = xp.reshape(A, (-1, n, n))
    rows = [grid_epsilon(flat[k, ...], z) for k in range(flat.shape[0])]
    return xp.reshape(xp.stack(rows), (*A.shape[:-2], z.shape[0]))


def reciprocal(epsilon: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return 1 / epsilon, and infinity at 0."""
    xp = array_namespace(epsilon)
    zero = epsilon == 0
    return xp.where(zero, xp.full_like(epsilon, math.inf), 1 / xp.where(zero, xp.ones_like(epsilon), epsilon))


def _points(z: object, *, like: Array) -> Array:
    """Return ``z`` as complex numbers in 64 bits, in the library and on the device of ``like``."""
    xp = array_namespace(like)
    if isinstance(z, int | float | complex):
        return xp.asarray(z, dtype=xp.complex128, device=device(like))
    if not is_array(z):
        raise TypeError(f"z must be a number or an array, got {type(z).__name__}; wrap it, e.g. np.asarray(...)")
    try:
        array_namespace(like, z)
    except TypeError as error:
        raise TypeError(f"z must be an array of the library of the system, got {type(z)} for {type(like)}") from error
    return xp.astype(z, xp.complex128)


def _distances(sys: DiagonalSSM | RealDiagonalSSM, z: Complex[Array, "g"]) -> Float[Array, "*batch g"]:
    xp = sys.xp
    lam = to_complex(sys.poles())
    lam = xp.concat([lam, conj(lam)], axis=-1) if isinstance(sys, RealDiagonalSSM) else lam
    step = max(1, BLOCK // math.prod(lam.shape))
    blocks = [xp.min(xp.abs(z[i : min(i + step, z.shape[0])] - lam[..., :, None]), axis=-2) for i in range(0, z.shape[0], step)]
    return xp.concat(blocks, axis=-1)


def smallest_singular_values(A: Inexact[Array, "*batch n n"], z: Complex[Array, "*#batch g"]) -> Float[Array, "*batch g"]:
    """Return sigma_min(z - A), each system at its own points or all at the same."""
    xp = array_namespace(A)
    A = to_complex(A)[..., None, :, :]
    step = max(1, BLOCK // math.prod(A.shape))
    blocks = (z[..., i : min(i + step, z.shape[-1])][..., None, None] for i in range(0, z.shape[-1], step))
    return xp.concat([xp.linalg.svdvals(block * eye(A.shape[-1], like=A) - A)[..., -1] for block in blocks], axis=-1)


Operator = Callable[[Array], Array]
Resolvents = Callable[[Array], tuple[Operator, Operator]]
"""From points (g,) to the maps v -> (z - A)^{-1} v and v -> (z - A)^{-*} v on columns (n, g), one column for each point."""


def grid_epsilon(A: Inexact[Array, "n n"], z: Complex[Array, "g"]) -> Float[Array, "g"]:
    """Return sigma_min(z - A) of one matrix at many points, by inverse Lanczos on its Schur form; 0 at a computed eigenvalue."""
    xp = array_namespace(A)
    import scipy.linalg  # here, since importing it takes as long as all the rest of the package

    T = xp.asarray(scipy.linalg.schur(to_numpy(A), output="complex")[0], device=device(A))
    hit = xp.any(z == xp.linalg.diagonal(T)[:, None], axis=0)
    beside = xp.where(hit, z + 2 * xp.max(xp.abs(T)) + 1, z)  # anywhere but at an eigenvalue
    return xp.where(hit, xp.zeros_like(xp.abs(z)), 1 / _blockwise(partial(_triangular, T), T, beside))


def _triangular(T: Complex[Array, "n n"], z: Complex[Array, "g"]) -> tuple[Operator, Operator]:
    distance = z - array_namespace(T).linalg.diagonal(T)[:, None]
    return partial(_solve_upper, T, distance), partial(_solve_adjoint, T, distance)


def _solve_upper(T: Array, distance: Array, v: Array) -> Array:
    """Solve (z - T) x = v by halves: the second one first, then the first with T_12 times it moved over."""
    xp, n = array_namespace(T), T.shape[-1]
    if n == 1:
        return v / distance
    h = n // 2
    second = _solve_upper(T[h:, h:], distance[h:, :], v[h:, :])
    first = _solve_upper(T[:h, :h], distance[:h, :], v[:h, :] + xp.matmul(T[:h, h:], second))
    return xp.concat([first, second], axis=0)


def _solve_adjoint(T: Array, distance: Array, v: Array) -> Array:
    """Solve (z - T)^* x = v: the first half first."""
    xp, n = array_namespace(T), T.shape[-1]
    if n == 1:
        return v / conj(distance)
    h = n // 2
    first = _solve_adjoint(T[:h, :h], distance[:h, :], v[:h, :])
    second = _solve_adjoint(T[h:, h:], distance[h:, :], v[h:, :] + xp.matmul(adjoint(T[:h, h:]), first))
    return xp.concat([first, second], axis=0)


def _dplr_norm(Lambda: Complex[Array, "n"], P: Complex[Array, "n r"], z: Complex[Array, "g"]) -> Float[Array, "g"]:
    return _blockwise(partial(_woodbury, Lambda, P), diag(Lambda) - matmul(P, adjoint(P)), z)


def _woodbury(Lambda: Complex[Array, "n"], P: Complex[Array, "n r"], z: Complex[Array, "g"]) -> tuple[Operator, Operator]:
    xp = array_namespace(P)
    inverse = 1 / (z - Lambda[:, None])
    columns = xp.matrix_transpose(inverse)[..., None] * P  # D^{-1} P of each point, (g, n, r)
    core = xp.linalg.inv(eye(P.shape[-1], like=P) + matmul(adjoint(P), columns))  # r x r with r = 1 or 2

    def apply(v: Array) -> Array:
        u = inverse * v
        small = xp.matmul(core, xp.matrix_transpose(matmul(adjoint(P), u))[..., None])
        return u - xp.matrix_transpose(xp.matmul(columns, small)[..., 0])

    def apply_adjoint(v: Array) -> Array:
        small = xp.matmul(adjoint(core), xp.matmul(adjoint(columns), xp.matrix_transpose(v)[..., None]))[..., 0]
        return conj(inverse) * (v - matmul(P, xp.matrix_transpose(small)))

    return apply, apply_adjoint


def _blockwise(resolvents: Resolvents, A: Complex[Array, "n n"], z: Complex[Array, "g"]) -> Float[Array, "g"]:
    step = max(1, BLOCK // A.shape[-1])
    with np.errstate(over="ignore", invalid="ignore"):  # where ||R||^2 exceeds 1e308 singular values decide
        blocks = [_lanczos_norm(resolvents, A, z[i : min(i + step, z.shape[0])]) for i in range(0, z.shape[0], step)]
    return array_namespace(z).concat(blocks)


def _lanczos_norm(resolvents: Resolvents, A: Complex[Array, "n n"], z: Complex[Array, "g"]) -> Float[Array, "g"]:
    """Return ||(z - A)^{-1}|| by Lanczos on R^* R (Golub, Van Loan, section 10.1) for all points at once.

    Without reorthogonalization: copies of converged Ritz values do no harm to the largest one.
    """
    xp = array_namespace(z)
    v = _start(A.shape[-1], z)
    state = [xp.zeros_like(v), v, xp.zeros_like(xp.abs(z))]
    T, found, norms, remaining = [], [], [], xp.arange(z.shape[0], device=device(z))
    for start, stop in itertools.pairwise((0, *CHECKS)):
        operators = resolvents(z)
        for _ in range(start, stop):
            coefficients, *state = _lanczos_step(*operators, *state)
            T.append(coefficients)
        finite = xp.all(xp.isfinite(xp.stack(T)), axis=(0, 1))
        top, residual = _largest_ritz_value(xp.where(finite, xp.stack(T), xp.zeros_like(T[0])))
        converged = finite & (residual <= RESIDUAL * top)
        found.append(remaining[converged])
        norms.append(xp.sqrt(top[converged]))
        left = xp.nonzero(~converged)[0]
        z, remaining, *rest = (xp.take(x, left, axis=-1) for x in (z, remaining, *state, *T))
        state, T = rest[:3], rest[3:]
        if left.shape[0] == 0:
            break
    else:
        found.append(remaining)
        norms.append(reciprocal(smallest_singular_values(A, z)))
    return xp.take(xp.concat(norms), xp.argsort(xp.concat(found)), axis=0)


def _lanczos_step(apply: Operator, apply_adjoint: Operator, previous: Array, v: Array, beta: Array) -> tuple[Array, Array, Array, Array]:
    """Return the new (alpha, beta) of the tridiagonal matrix, and the state of the next step."""
    xp = array_namespace(v)
    w = apply_adjoint(apply(v))
    alpha = xp.real(xp.sum(conj(v) * w, axis=0))
    w = w - alpha * v - beta * previous
    beta = xp.sqrt(xp.sum(abs2(w), axis=0))
    return xp.stack([alpha, beta]), v, w / xp.where(beta == 0, xp.ones_like(beta), beta), beta


def _start(n: int, z: Complex[Array, "g"]) -> Complex[Array, "n g"]:
    """Return the same generic vector for every point and every call."""
    rng = np.random.default_rng(0)
    v = rng.standard_normal(n) + 1j * rng.standard_normal(n)
    xp = array_namespace(z)
    return xp.broadcast_to(xp.asarray(v / np.linalg.norm(v), device=device(z))[:, None], (n, z.shape[0]))


def _largest_ritz_value(T: Float[Array, "k 2 g"]) -> tuple[Array, Array]:
    """Return largest eigenvalue of the tridiagonal matrix, and the residual beta_k |last entry of its eigenvector|."""
    xp, k = array_namespace(T), T.shape[0]
    alpha, beta = (xp.matrix_transpose(T[:, i, :]) for i in (0, 1))
    above = beta[..., None] * xp.eye(k, k=1, dtype=T.dtype, device=device(T))
    values, vectors = xp.linalg.eigh(diag(alpha) + above + xp.matrix_transpose(above))
    return values[:, -1], beta[:, -1] * xp.abs(vectors[:, -1, -1])
