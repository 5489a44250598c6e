r"""Upper bounds of the gain sigma_max(G(e^{i theta})) on arcs of the circle, rounding included.

Around the center c of an arc of half-width h the response is a quadratic in t = theta - c and a remainder,

    G(c + t) = G + t G' + t^2/2 G'' + R,   ||R|| <= h^3/6 sup ||G'''||.

For poles lambda_i at distances d_i from the arc, with w = z - lambda, three derivatives of 1/w by theta give

    (1/w)''' = i z (w^2 + 6 lambda w + 6 lambda^2) / w^4,
    ||G'''|| <= sum_i ||c_i|| ||b_i|| (d_i^2 + 6 |lambda_i| d_i + 6 |lambda_i|^2) / d_i^4,

and with q = 1/expm1(log(lambda) - i theta) (see `gains`), C q B standing for sum_i c_i q_i b_i,

    G = D - conj(z) C q B,   G' = -i conj(z) C q^2 B,   G'' = conj(z) C (q^2 + 2 q^3) B.

Rounding is bounded by counting operations with u = 2^-53, elementary functions being within 4 ulp: a power of q has
relative error 96 u at most, and 8 u |y| (1 + 1/d) more, where y = (theta - arg(lambda)) / 2 is itself rounded (it
matters where angles exceed a turn); sums of n terms add 2 n u.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Complex, Float, Inexact, Int

from ssm_analysis.analyses.gramians.gramians import solve_stein
from ssm_analysis.xp import Array

UNIT = 2.0**-53
SAFE = 1 + 2.0**-40
"""Covers the rounding of sums and products of up to a thousand positive terms."""
BLOCK = 2**14
"""Entries of arcs times poles at a time: they stay in the cache (measured)."""
MATRICES = 2**18
"""Entries of arcs times matrices at a time."""

Arcs = Float[np.ndarray, " k"]
Owner = Int[np.ndarray, " k"]


class Enclosure(NamedTuple):
    """Bounds of the gain on each arc."""

    low: Arcs
    """A lower bound of the gain at the center."""
    high: Arcs
    """An upper bound of the gain everywhere on the arc."""
    improvable: Bool[np.ndarray, " k"]
    """Whether more than rounding lies between the two."""


Enclose = Callable[[Owner, Arcs, Arcs, Arcs], Enclosure]
"""(owner, center, half, goal) -> Enclosure of the gain of system ``owner`` on |theta - center| <= half.

Where ``high`` exceeds the goal it may be crude.
"""


def scalar_arcs(
    *,
    log_poles: Inexact[np.ndarray, "s n"],
    B: Inexact[np.ndarray, "s n 1"],
    C: Inexact[np.ndarray, "s 1 n"],
    D: Inexact[np.ndarray, "s 1 1"],
) -> Enclose:
    """Return the enclosing function of diagonal systems with one input and one output, all of the batch together."""
    residue, through = C[:, 0, :] * B[:, :, 0], D[:, 0, 0]
    poles = _packed(log_poles, np.abs(residue))

    def block(owner: Owner, c: Arcs, h: Arcs, goal: Arcs) -> Enclosure:
        terms = _pole_terms(poles[owner], c, h)
        powers = _power_sums(residue[owner], terms.q)
        D, zbar = through[owner], np.exp(-1j * c)
        G, first, second = D - zbar * powers[0], -1j * zbar * powers[1], zbar * (powers[1] + 2 * powers[2])
        rounding = terms.rounding + 8 * UNIT * np.abs(D)
        series = _Taylor(value=G, first=first, second=second, third=terms.third, half=h, rounding=rounding, growth=terms.growth)
        low, high, improvable = _scalar_enclosure(series)
        return Enclosure(low, np.minimum(high, (np.abs(D) + terms.zeroth) * SAFE), improvable)

    return _in_blocks(block, max(1, BLOCK // log_poles.shape[-1]))


def matrix_arcs(
    *,
    log_poles: Inexact[np.ndarray, "s n"],
    B: Inexact[np.ndarray, "s n m"],
    C: Inexact[np.ndarray, "s p n"],
    D: Inexact[np.ndarray, "s p m"],
) -> Enclose:
    """Return the enclosing function of diagonal systems with several inputs or outputs, which are treated one after the other."""
    poles = _packed(log_poles, np.linalg.norm(C, axis=1) * np.linalg.norm(B, axis=2))
    per_arc = C.shape[1] * max(B.shape[1:])

    def block(owner: Owner, c: Arcs, h: Arcs, goal: Arcs) -> Enclosure:
        i = owner[0]
        terms = _pole_terms(np.broadcast_to(poles[i], (len(c), *poles[i].shape)), c, h)
        zbar, q = np.exp(-1j * c)[:, None, None], terms.q[:, None, :]
        simple, double, triple = ((C[i] * power) @ B[i] for power in (q, q * q, q * q * q))
        G, first, second = D[i] - zbar * simple, -1j * zbar * double, zbar * (double + 2 * triple)
        rounding = terms.rounding + 8 * UNIT * np.linalg.norm(D[i])
        series = _Taylor(value=G, first=first, second=second, third=terms.third, half=h, rounding=rounding, growth=terms.growth)
        return _matrix_enclosure(series, goal)

    return _one_system_at_a_time(block, max(1, MATRICES // per_arc))


def dense_arcs(
    *, A: Inexact[np.ndarray, "s n n"], B: Inexact[np.ndarray, "s n m"], C: Inexact[np.ndarray, "s p n"], D: Inexact[np.ndarray, "s p m"]
) -> Enclose:
    r"""Return the enclosing function of systems with a full A, which are treated one after the other.

    With R = (z - A)^{-1}, Y = C R, X = R B: G = D + C X, G' = -i z Y X, G'' = z Y X - 2 z^2 Y R X, and as
    ||(z' - A)^{-1}|| <= r = ||R|| / (1 - h ||R||) and ||C (z' - A)^{-1}|| <= ||Y|| / (1 - h ||R||) for |z' - z| <= h,

        ||G'''|| = ||C (z R^2 - 6 z^2 R^3 + 6 z^3 R^4) B|| <= ||Y|| ||X|| (1 + 6 r + 6 r^2) / (1 - h ||R||)^2.

    The computed inverse S is close to R by its residual: R = S + R E with E = 1 - (z - A) S.
    """
    n = A.shape[-1]

    def block(owner: Owner, c: Arcs, h: Arcs, goal: Arcs) -> Enclosure:
        i, z = owner[0], np.exp(1j * c)[:, None, None]
        pencil = z * np.eye(n) - A[i]
        R = np.linalg.inv(pencil)
        residual = _frobenius(np.eye(n) - pencil @ R) + 4 * n * UNIT * _frobenius(pencil) * _frobenius(R)
        inverted = residual < 0.5
        grow = 1 / (1 - np.where(inverted, residual, 0.5))
        X, Y = R @ B[i], C[i] @ R
        r, x, y = _two_norm_bound(R) * grow, _frobenius(X) * grow, _two_norm_bound(Y) * grow
        near = np.where(inverted & (h * r < 0.5), h * r, 0.5)
        reach = r / (1 - near)
        third = x * y * (1 + 6 * reach * (1 + reach)) / (1 - near) ** 2
        rounding = 2 * (residual + 8 * n * UNIT) * (y * np.linalg.norm(B[i]) + x * np.linalg.norm(C[i]))
        once = Y @ X
        G, first, second = D[i] + C[i] @ X, -1j * z * once, z * once - 2 * z * z * (Y @ (R @ X))
        growth = 1 + near * (2 + 3 * near)
        series = _Taylor(value=G, first=first, second=second, third=third, half=h, rounding=rounding, growth=growth)
        low, high, improvable = _matrix_enclosure(series, goal)
        return Enclosure(np.where(inverted, low, 0), np.where(near < 0.5, high, np.inf), improvable | (near == 0.5))

    return _one_system_at_a_time(block, max(1, MATRICES // n**2))


def proved_stable(A: Inexact[np.ndarray, "n n"]) -> bool:
    """Return whether all |lambda| < 1 is proved: P > 0 and P - A P A* > 0 for some P, here a computed solution of P = A P A* + 1.

    This suffices because x* (P - A P A*) x = (1 - |lambda|^2) x* P x for every left eigenvector x.
    """
    P = solve_stein(A, np.eye(len(A), dtype=A.dtype))
    P = (P + P.conj().T) / 2
    gap = P - A @ P @ A.conj().T
    rounding = 8 * (len(A) + 2) * UNIT * float((1 + np.linalg.norm(A) ** 2) * np.linalg.norm(P))
    return _proved_positive(P, 0.0) and _proved_positive((gap + gap.conj().T) / 2, rounding)


def _proved_positive(M: Inexact[np.ndarray, "n n"], error: float) -> bool:
    """Return whether Cholesky succeeds on M after everything that rounding can add is taken off (Rump, BIT 46 (2006) 433-452)."""
    n = len(M)
    shift = (error + 4 * (n + 2) * UNIT * float(np.sum(np.abs(np.diag(M))))) * SAFE
    try:
        np.linalg.cholesky(M - shift * np.eye(n))
    except np.linalg.LinAlgError:
        return False
    return True


class _Terms(NamedTuple):
    """Sums over the poles for each arc."""

    q: Complex[np.ndarray, "k n"]
    zeroth: Arcs
    """Bound of ||G - D|| on the arc."""
    third: Arcs
    """Bound of ||G'''|| on the arc."""
    rounding: Arcs
    """Bound of the rounding of G."""
    growth: Arcs
    """Factor by which the rounding of G + t G' + t^2/2 G'' can exceed that of G: 1 + x + x^2 with x = h / d."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Taylor:
    """The response on arcs: three Taylor coefficients at the center, and bounds of what they leave out.

    ``value``, ``first`` and ``second`` are G and its first two derivatives by the angle at the center of each arc, numbers or
    matrices; ``half`` is half the width of the arc in radians.
    """

    value: Array
    first: Array
    second: Array
    third: Arcs
    """Bound of ||G'''|| on the arc."""
    half: Arcs
    rounding: Arcs
    """Bound of the rounding of ``value``."""
    growth: Arcs
    """Factor by which the rounding at the ends of the arc can exceed that at the center."""


def _packed(mu: Inexact[np.ndarray, "s n"], weight: Float[np.ndarray, "s n"]) -> Float[np.ndarray, "s 4 n"]:
    """Return arg(lambda) / 2, |lambda| - 1, |lambda| and ||c|| ||b|| of each pole."""
    return np.stack([np.imag(mu) / 2, np.expm1(np.real(mu)), np.exp(np.real(mu)), weight], axis=1)


def _pole_terms(poles: Float[np.ndarray, "k 4 n"], center: Arcs, half: Arcs) -> _Terms:
    """Return the sums over ``poles``, as `_packed` holds them, for the arc |theta - center| <= half of each system."""
    angle, growth, rho, weight = np.moveaxis(poles, 1, 0)
    h, n, square, sum2 = half[:, None], poles.shape[-1], growth * growth, (1 + rho) ** 2
    y = (center / 2)[:, None] - angle
    t = np.tan(y)
    t2 = t * t
    scale = 1 / (square + sum2 * t2)
    q = np.empty(t.shape, np.complex128)
    q.real, q.imag = (growth - (1 + rho) * t2) * scale, 2 * rho * t * scale
    y = np.abs(y)
    sine = np.maximum(np.sqrt(t2 / (1 + t2)) - h / 2 - 4 * UNIT * (1 + y), 0)  # |sin y| at the point of the arc next to the pole
    inverse = 1 / np.sqrt(square + 4 * rho * sine * sine)  # 1 / d
    ratio = rho * inverse
    ones, weighted = np.ones(n), weight * inverse
    third = (weighted * inverse * (1 + 6 * ratio * (1 + ratio))) @ ones
    rounding = (weighted * (96 + 2 * n + 8 * y * (1 + inverse))) @ ones
    reach = half * np.max(inverse, axis=-1)
    return _Terms(q, weighted @ ones, third, UNIT * rounding, 1 + reach * (1 + reach))


def _power_sums(residue: Inexact[np.ndarray, "k n"], q: Complex[np.ndarray, "k n"]) -> list[Complex[np.ndarray, " k"]]:
    """Return sum_i r_i q_i^j for j = 1, 2, 3."""
    sums, term, ones = [], residue, np.ones(q.shape[-1])
    for _ in range(3):
        term = term * q
        sums.append(term @ ones)
    return sums


def _largest_square(G: Array, first: Array, second: Array, h: Arcs) -> Arcs:
    """Return bound max |G + t G' + t^2/2 G''|^2 over |t| <= h: exact in the terms with t and t^2, which count together, and crude
    beyond."""
    slope, bend = 2 * np.abs(np.real(np.conj(G) * first)), np.abs(first) ** 2 + np.real(np.conj(G) * second)
    inside = (bend < 0) & (slope < -2 * bend * h)
    rise = np.where(inside, slope**2 / np.where(inside, -4 * bend, 1), (slope + bend * h) * h)
    size = np.abs(G) + h * np.abs(first) + h**2 * np.abs(second)
    rest = h**3 * np.abs(np.real(np.conj(first) * second)) + h**4 * np.abs(second) ** 2 / 4
    return np.abs(G) ** 2 + rise + rest + 16 * UNIT * size**2


def _scalar_enclosure(series: _Taylor) -> Enclosure:
    """Enclose |G| on each arc from the Taylor coefficients at its center, which are numbers."""
    G, h = series.value, series.half
    size, rounding = np.abs(G), series.rounding + 8 * UNIT * np.abs(G)
    largest = np.sqrt(_largest_square(G, series.first, series.second, h))
    high = largest * SAFE + h**3 / 6 * series.third * SAFE + rounding * series.growth
    return Enclosure(size - rounding, high, high - size > 4 * rounding)


def _matrix_enclosure(series: _Taylor, goal: Arcs) -> Enclosure:
    """Enclose sigma_max(G) on each arc from the Taylor coefficients at its center, which are matrices.

    On either half of the arc the quadratic differs from the chord between its ends by at most h^2/8 ||G''||, and the
    norm of a chord is largest at an end. Singular values are computed only where they decide whether ``goal`` is exceeded.
    """
    G, first, second, h = series.value, series.first, series.second, series.half
    if G.shape[-2:] == (1, 1):
        return _scalar_enclosure(replace(series, value=G[:, 0, 0], first=first[:, 0, 0], second=second[:, 0, 0]))
    rounding = series.rounding + 8 * sum(G.shape[-2:]) * UNIT * _frobenius(G)
    rest = (h**3 / 6 * series.third + h**2 / 8 * _frobenius(second)) * SAFE + rounding * series.growth
    step = h[:, None, None]
    nodes = np.stack([G, G + step * first + step**2 / 2 * second, G - step * first + step**2 / 2 * second], axis=1)
    rows = np.max(np.linalg.norm(nodes, axis=-1), axis=-1)  # the norm of a row is at most that of the matrix
    low, high = rows[:, 0], np.max(_frobenius(nodes), axis=-1)
    decides = (h == 0) | ((high + rest > goal) & (np.max(rows, axis=-1) + rest <= goal))
    sigma = np.linalg.svd(nodes[decides], compute_uv=False)[..., 0]
    low[decides], high[decides] = sigma[:, 0], np.max(sigma, axis=-1)
    high = high * SAFE + rest
    return Enclosure(low - rounding, high, high - low > 4 * rounding)


def _frobenius(M: Array) -> Float[np.ndarray, "..."]:
    """Return ||M||_F of each matrix."""
    return np.linalg.norm(M, axis=(-2, -1))


def _two_norm_bound(M: Array) -> Arcs:
    """Bound ||M||_2 of each matrix by sqrt(||M||_1 ||M||_inf) and by ||M||_F, whichever is smaller."""
    size = np.abs(M)
    mixed = np.sqrt(np.max(np.sum(size, axis=-2), axis=-1) * np.max(np.sum(size, axis=-1), axis=-1))
    return np.minimum(mixed, _frobenius(M)) * SAFE


def _in_blocks(block: Enclose, step: int) -> Enclose:
    """Return the enclosing function that hands ``block`` at most ``step`` arcs at a time, of any systems."""

    def enclose(owner: Owner, center: Arcs, half: Arcs, goal: Arcs) -> Enclosure:
        cuts = [slice(i, i + step) for i in range(0, len(owner), step)]
        parts = [block(owner[cut], center[cut], half[cut], goal[cut]) for cut in cuts]
        return Enclosure(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    return enclose


def _one_system_at_a_time(block: Enclose, step: int) -> Enclose:
    """Return the enclosing function that hands ``block`` at most ``step`` arcs at a time, all of one system; ``owner`` is sorted."""

    def enclose(owner: Owner, center: Arcs, half: Arcs, goal: Arcs) -> Enclosure:
        ends = [*(np.flatnonzero(np.diff(owner)) + 1).tolist(), len(owner)]
        cuts = [slice(i, min(i + step, end)) for start, end in zip([0, *ends], ends, strict=False) for i in range(start, end, step)]
        parts = [block(owner[cut], center[cut], half[cut], goal[cut]) for cut in cuts]
        return Enclosure(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    return enclose
