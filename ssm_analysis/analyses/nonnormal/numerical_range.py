r"""The numerical range {x* A x / x* x}: its rightmost point and its largest modulus bound what a non-normal A does.

It contains the eigenvalues and needs none of them, so it says something where they are too ill-conditioned to be computed.

References: Horn, Johnson, Topics in Matrix Analysis (Cambridge 1991), chapter 1; Trefethen, Embree, Spectra and Pseudospectra
(Princeton 2005), chapter 17.
"""

import math

import numpy as np
from jaxtyping import Float, Inexact

from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import (
    Array,
    adjoint,
    array_namespace,
    complex_from,
    device,
    double,
    is_array,
    is_complex,
    is_floating,
    real,
    stop_gradient,
    to_complex,
    to_numpy,
)

KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace)
BLOCK = 2**18
"""Matrix entries in work at a time; they stay in the cache, and memory stays bounded."""


def numerical_abscissa(A: Inexact[Array, "*batch n n"]) -> Float[Array, "*batch"]:
    r"""Return max eig (A + A*)/2, the logarithmic 2-norm: ||e^{At}|| <= e^{t numerical_abscissa(A)}, tight at t = 0.

    For a continuous-time state matrix. Negative means that no initial state ever grows, whatever the eigenvectors:
    -1/2 for HiPPO-LegS. The counterpart in discrete time is `numerical_radius`.

    Raises
    ------
    TypeError
        If ``A`` is not a floating-point array.
    ValueError
        If ``A`` is not square.

    Examples
    --------
    >>> from ssm_analysis.analyses.nonnormal.numerical_range import numerical_abscissa
    >>> float(numerical_abscissa(np.asarray([[-1.0, 4.0], [0.0, -1.0]])))
    1.0
    """
    if not is_array(A) or not is_floating(A):
        raise TypeError(f"A must be an array of floating-point numbers, got {getattr(A, 'dtype', type(A).__name__)}")
    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        raise ValueError(f"A must have shape (*batch, n, n), got {tuple(A.shape)}")
    A = double(A)
    return array_namespace(A).linalg.eigvalsh((A + adjoint(A)) / 2)[..., -1]


def numerical_radius(sys: LTI, *, rtol: float = 1e-6) -> Float[Array, "*batch"]:
    r"""Return r(A) = max |x* A x| / x* x, from below: r lies in [value, value (1 + rtol)].

    r(A) <= 1 is enough for ||A^k|| <= 2 for all k, without any eigenvector. rho(A) <= r(A) <= ||A|| <= 2 r(A); for a diagonal
    system r = rho exactly. r is the maximum over theta of h(theta) = max eig Re(e^{-i theta} A). h is the support function of a
    convex set, so between two angles it lies under the corner of two support lines; angles are halved where that
    corner could matter. Differentiable.

    Parameters
    ----------
    sys
        A time-invariant system; the analysis is of its A in the coordinates it has.
    rtol
        Relative accuracy. A disc-shaped numerical range, such as a Jordan block's, needs about 2 / sqrt(rtol) angles.

    Raises
    ------
    ValueError
        If ``rtol`` is not between 1e-10 and 1.

    References
    ----------
    Johnson, SIAM J. Numer. Anal. 15 (1978) 595-602 (support lines of the numerical range).
    """
    check_system(sys, KINDS, "numerical_radius")
    if not 1e-10 <= rtol < 1:
        raise ValueError(f"rtol must be between 1e-10 and 1, got {rtol}")
    sys = in_double(sys)
    if not isinstance(sys, StateSpace):
        return sys.xp.exp(sys.xp.max(real(sys.log_poles), axis=-1))
    xp = sys.xp
    flat = xp.reshape(sys.A, (-1, sys.nstates, sys.nstates))
    angle = xp.asarray(_best_angles(stop_gradient(flat), rtol), device=device(flat))
    return xp.reshape(_support(flat, angle), sys.batch_shape)


def _best_angles(A: Inexact[Array, "s n n"], rtol: float) -> Float[np.ndarray, "s"]:
    """Find for each system an angle theta with h(theta) >= r(A) / (1 + rtol). The intervals of all systems are halved together."""
    edges = np.linspace(0, math.pi if not is_complex(A) else 2 * math.pi, 9)  # of a real A, h is even
    h = np.stack([_support_at(A, np.arange(A.shape[0]), np.full(A.shape[0], angle)) for angle in edges], axis=-1)
    best, angle = np.max(h, axis=-1), edges[np.argmax(h, axis=-1)]
    which = np.repeat(np.arange(A.shape[0]), 8)
    a, b, ha, hb = np.tile(edges[:-1], A.shape[0]), np.tile(edges[1:], A.shape[0]), h[:, :-1].ravel(), h[:, 1:].ravel()
    while True:
        left = _corner(ha, hb, b - a) > best[which] * (1 + rtol)
        if not np.any(left):
            return angle
        which = which[left]
        a, b, ha, hb = (x[left] for x in (a, b, ha, hb))
        middle = (a + b) / 2
        hm = _support_at(A, which, middle)
        order = np.argsort(hm)  # of several angles of one system the last one written is the best
        order = order[hm[order] > best[which[order]]]
        best[which[order]], angle[which[order]] = hm[order], middle[order]
        which, a, b = np.tile(which, 2), np.concatenate([a, middle]), np.concatenate([middle, b])
        ha, hb = np.concatenate([ha, hm]), np.concatenate([hm, hb])


def _corner(ha: np.ndarray, hb: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return largest support between two angles that the support at both allows: the distance of the corner, where it lies between them."""
    cosine = np.cos(width)
    between = (hb > ha * cosine) & (ha > hb * cosine)
    square = (ha - hb) ** 2 + 4 * ha * hb * np.sin(width / 2) ** 2
    return np.where(between, np.sqrt(np.where(between, square, 0)) / np.sin(width), np.maximum(ha, hb))


def _support_at(A: Array, which: np.ndarray, angle: np.ndarray) -> np.ndarray:
    xp, step, blocks = array_namespace(A), max(1, BLOCK // A.shape[-1] ** 2), []
    for i in range(0, len(which), step):
        index, theta = (xp.asarray(x[i : i + step], device=device(A)) for x in (which, angle))
        blocks.append(to_numpy(_support(xp.take(A, index, axis=0), theta)))
    return np.concatenate(blocks)


def _support(A: Inexact[Array, "s n n"], angle: Float[Array, "s"]) -> Float[Array, "s"]:
    """Return h(theta) = max eig Re(e^{-i theta} A)."""
    xp = array_namespace(A)
    turned = complex_from(xp.cos(angle), -xp.sin(angle))[:, None, None] * to_complex(A)
    return xp.linalg.eigvalsh((turned + adjoint(turned)) / 2)[..., -1]
