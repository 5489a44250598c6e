r"""Search for the peak of the frequency response: the angle theta where sigma_max(G(e^{i theta})) is largest.

A grid that follows the poles, arg(lambda) +- {0, 1/2, 1, 2, 4} (1 - |lambda|), is joined to an even one, and the slope
is followed from its highest local maxima. An even grid alone misses sharp peaks: 1024 angles were up to 36 % low on
fresh S4D layers.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jaxtyping import Complex, Float, Inexact

from ssm_analysis.analyses.responses.gains import all_modes, flattened, gain, gain_estimate, gain_slope, has_real_kernel, response, survey
from ssm_analysis.analyses.responses.kernels import kernel
from ssm_analysis.systems import LTI, DiagonalSSM, StateSpace
from ssm_analysis.xp import Array, array_namespace, complex_from, device, eye, imag, is_complex, real, to_complex

EVEN = 256
"""Angles of the even grid around the circle."""
OFFSETS = (-4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0)
"""Where a resonance (1 + x^2)^(-1/2) and its skewed forms are sampled, in units of its half-width 1 - |lambda|."""
FINE = 2**14
"""Angles of the even grid of a full A, whose response there costs one FFT."""
ENTRIES = 2**24
"""Entries of that response for the whole batch at most; beyond, the grid is coarser (but not than ``EVEN``)."""
CLIMBS = 6
"""Local maxima of the grid that are refined."""
STEPS = 12
"""Iterations of Ridders at most: each at least halves the bracket, the last ones square its relative width."""
SMALL = 1e-7
"""Relative change of an angle at which its error, the square of it, is below rounding."""
BLOCK = 2**15
"""Resolvent entries formed at a time: temporary arrays of a quarter megabyte stay in the cache and in the heap (with
more than a megabyte the system maps and clears their pages anew each time: measured 2 to 5 times slower)."""

Angles = Float[Array, "*batch k"]
Ends = tuple[Float[Array, "*batch c"], Float[Array, "*batch c"]]
"""Left and right ends of intervals."""


def peak_angle(sys: LTI) -> Float[Array, "*batch"]:
    """The angle theta in rad/step of the largest gain found; ``sys`` is stable, in 64 bits and without gradients."""
    if 0 in sys.batch_shape:
        return real(sys.B[..., 0, 0])
    half, flat = has_real_kernel(sys), flattened(sys)
    if isinstance(flat, StateSpace):
        whole = flat
        grid, height = _dense_grid(flat, half=half)
        brackets = _around_maxima(grid, height, half=half)
    else:  # of each pair of poles of a real system only the stored one
        whole = all_modes(flat)
        grid, height, rise = _diagonal_grid(whole, flat.log_poles, half=half)
        brackets = _where_slopes_fall(grid, height, rise, half=half)
    xp = sys.xp
    highest = xp.take_along_axis(grid, xp.argmax(height, axis=-1, keepdims=True), axis=-1)
    candidates = xp.concat([_climbed(whole, *brackets), highest], axis=-1)
    best = xp.argmax(_in_blocks(gain, whole, candidates), axis=-1, keepdims=True)
    return xp.reshape(_folded(xp.take_along_axis(candidates, best, axis=-1), half=half), sys.batch_shape)


def _diagonal_grid(sys: DiagonalSSM, mu: Inexact[Array, "*batch n"], *, half: bool) -> tuple[Angles, Angles, Angles]:
    """Sorted angles, the gains there and their slopes."""
    xp, width = sys.xp, -real(mu)
    near = imag(mu)[..., None] + width[..., None] * xp.asarray(OFFSETS, dtype=width.dtype, device=device(width))
    near = _folded(xp.reshape(near, (*near.shape[:-2], -1)), half=half)
    grid = xp.sort(xp.concat([near, _even(EVEN, half=half, like=width)], axis=-1), axis=-1)
    found = _in_blocks(survey, sys, grid)
    return grid, found[..., 0, :], found[..., 1, :]


def _dense_grid(sys: StateSpace, *, half: bool) -> tuple[Angles, Angles]:
    """Sorted angles and the gains there: a fine even grid by FFT, and angles where eigenvalues say that it is not enough.

    Eigenvalues only hint; a wrong one costs time.
    """
    xp, like = sys.xp, real(sys.B[..., 0])
    room = max(1, ENTRIES // (sys.ninputs * sys.noutputs * math.prod(sys.batch_shape)))
    length = max(EVEN, min(FINE, 2 ** (room.bit_length() - 1)))
    grid, height = _even(length, half=half, like=like), gain_estimate(_periodic_response(sys, length, half=half))
    if not _confirmed(sys, grid, height):
        grid = _even(EVEN, half=half, like=like)
        height = _in_blocks(_estimate, sys, grid)
    hints = _sharp_angles(sys, 4 * math.pi / length, half=half)
    grid, height = xp.concat([grid, hints], axis=-1), xp.concat([height, _in_blocks(_estimate, sys, hints)], axis=-1)
    order = xp.argsort(grid, axis=-1)
    return xp.take_along_axis(grid, order, axis=-1), xp.take_along_axis(height, order, axis=-1)


def _estimate(sys: StateSpace, theta: Angles) -> Angles:
    return gain_estimate(response(sys, theta))


def _sharp_angles(sys: StateSpace, narrow: float, *, half: bool) -> Angles:
    """arg(lambda) and arg(lambda) +- (1 - |lambda|) of the eigenvalues with 1 - |lambda| below ``narrow``, one at least."""
    xp = sys.xp
    poles = to_complex(xp.linalg.eigvals(sys.A))
    width = xp.abs(1 - xp.abs(poles))
    count = max(1, int(xp.max(xp.sum(xp.astype(width < narrow, xp.int64), axis=-1))))
    first = xp.argsort(width, axis=-1)[..., :count]
    poles, width = xp.take_along_axis(poles, first, axis=-1), xp.take_along_axis(width, first, axis=-1)
    angle = xp.atan2(imag(poles), real(poles))
    angles = xp.concat([angle - width, angle, angle + width], axis=-1)
    conjugate = half & (xp.concat([angle] * 3, axis=-1) < 0)  # nearly equal angles would hide a maximum between them
    return _folded(xp.where(conjugate, xp.zeros_like(angles), angles), half=half)


def _periodic_response(sys: StateSpace, length: int, *, half: bool) -> Complex[Array, "*batch k p m"]:
    """G where z^L = 1: D + conj(z) times the Fourier sum of C A^k (1 - A^L)^{-1} B over k < L."""
    xp, power = sys.xp, sys.A
    for _ in range(length.bit_length() - 1):
        power = xp.matmul(power, power)
    loop = eye(sys.nstates, like=power) - power
    if is_complex(sys.B) != is_complex(loop):
        loop = to_complex(loop)
    B = xp.linalg.solve(loop, sys.B + 0 * loop[..., :, :1])
    K = to_complex(kernel(replace(sys, B=B), length + 1)[..., 1:, :, :])
    G = xp.fft.fft(K, axis=-3)
    G = G[..., : length // 2 + 1, :, :] if half else xp.roll(G, length // 2, axis=-3)
    theta = _even(length, half=half, like=real(sys.B[..., 0]))[..., None, None]
    return complex_from(xp.cos(theta), -xp.sin(theta)) * G + sys.D[..., None, :, :]


def _confirmed(sys: StateSpace, theta: Angles, height: Angles) -> bool:
    """Whether the highest values hold; powers of an A far from normal can cancel beyond what 64 bits hold."""
    xp = sys.xp
    best = xp.argsort(height, axis=-1, descending=True)[..., :CLIMBS]
    found, angles = (xp.take_along_axis(x, best, axis=-1) for x in (height, theta))
    direct = _in_blocks(_estimate, sys, angles)
    return bool(xp.all(xp.abs(found - direct) <= 0.01 * direct))


def _around_maxima(grid: Angles, height: Angles, *, half: bool) -> Ends:
    """The angles before and after the highest local maxima; one angle where there are fewer than ``CLIMBS``."""
    xp = array_namespace(grid)
    before, after = xp.roll(grid, 1, axis=-1), xp.roll(grid, -1, axis=-1)
    before = xp.where(before > grid, grid if half else before - 2 * math.pi, before)
    after = xp.where(after < grid, grid if half else after + 2 * math.pi, after)
    peak = ((height >= xp.roll(height, 1, axis=-1)) | (before == grid)) & ((height >= xp.roll(height, -1, axis=-1)) | (after == grid))
    return _highest(xp.where(peak, height, -xp.ones_like(height)), before, after)


def _where_slopes_fall(grid: Angles, height: Angles, rise: Angles, *, half: bool) -> Ends:
    """Neighboring angles between which the slope falls through 0, those with the highest gains."""
    xp = array_namespace(grid)
    if half:  # by symmetry the slope at 0 and pi is 0: count a maximum next to them as one
        one = xp.ones_like(rise)
        rise = xp.where(grid <= 0, one, xp.where(grid >= math.pi, -one, rise))
    after = xp.roll(grid, -1, axis=-1)
    after = xp.where(after < grid, after + 2 * math.pi, after)
    higher, rising = xp.roll(height, -1, axis=-1), xp.roll(rise, -1, axis=-1) > 0
    falls = ((rise > 0) & (~rising | (higher < height))) | (~rising & (higher > height))
    top = xp.where(falls & (after > grid), xp.maximum(height, higher), -xp.ones_like(height))
    return _highest(top, grid, after)


def _highest(height: Angles, left: Angles, right: Angles) -> Ends:
    """The intervals of the ``CLIMBS`` largest heights; without extent where the height is negative."""
    xp = array_namespace(height)
    best = xp.argsort(height, axis=-1, descending=True)[..., :CLIMBS]
    height, left, right = (xp.take_along_axis(x, best, axis=-1) for x in (height, left, right))
    return left, xp.where(height < 0, left, right)


def _climbed(sys: DiagonalSSM | StateSpace, left: Angles, right: Angles) -> Angles:
    """Where the slope falls through 0 between ``left`` and ``right``.

    Ridders' rule (IEEE Trans. Circuits Syst. 26 (1979) 979-980); halving toward the rise where the ends do not
    bracket a maximum after all.
    """
    xp, reach = sys.xp, right - left
    bracket = (left, _in_blocks(gain_slope, sys, left), right, _in_blocks(gain_slope, sys, right))
    theta = left
    for _ in range(STEPS):
        lo, s_lo, hi, s_hi = bracket
        middle = (lo + hi) / 2
        s = _in_blocks(gain_slope, sys, middle)
        bracketed = (s_lo > 0) & (s_hi < 0)
        scale = xp.sqrt(xp.where(bracketed, s * s - s_lo * s_hi, xp.ones_like(s)))
        jump = (hi - lo) / 2 * s / xp.where(scale > 0, scale, xp.ones_like(s))  # slopes below 1e-154 have no square
        previous, theta = theta, xp.where(bracketed, middle + jump, middle)
        bracket = _cut(_cut(bracket, middle, s), theta, _in_blocks(gain_slope, sys, theta))
        if bool(xp.all(xp.abs(theta - previous) <= SMALL * reach)):
            break
    return theta


def _cut(bracket: tuple[Angles, Angles, Angles, Angles], theta: Angles, s: Angles) -> tuple[Angles, Angles, Angles, Angles]:
    """(left, slope, right, slope) with ``theta`` in the place of one end, if it lies inside."""
    lo, s_lo, hi, s_hi = bracket
    xp, inside = array_namespace(theta), (theta > lo) & (theta < hi)
    rise, fall = inside & (s > 0), inside & ~(s > 0)
    return xp.where(rise, theta, lo), xp.where(rise, s, s_lo), xp.where(fall, theta, hi), xp.where(fall, s, s_hi)


def _even(count: int, *, half: bool, like: Float[Array, "*batch n"]) -> Angles:
    """[0, pi] in steps of 2 pi / count, or the circle from -pi on, once for each system of the batch."""
    xp = array_namespace(like)
    index = xp.arange(0 if half else -(count // 2), count // 2 + (1 if half else 0), dtype=like.dtype, device=device(like))
    return 2 * math.pi / count * index + xp.zeros_like(like[..., :1])


def _folded(theta: Angles, *, half: bool) -> Angles:
    """The same angle in (-pi, pi], or in [0, pi] where theta and -theta count as one."""
    xp = array_namespace(theta)
    theta = theta - 2 * math.pi * xp.ceil((theta - math.pi) / (2 * math.pi))  # exactly itself where nothing is to do
    return xp.abs(theta) if half else theta


def _in_blocks(f: Callable[[Any, Angles], Array], sys: DiagonalSSM | StateSpace, theta: Angles) -> Array:
    """f(sys, theta) for a few systems, or for a few angles of one system, at a time; the batch is one axis."""
    count, total = theta.shape[-1], len(sys)
    per_angle = sys.nstates * (sys.nstates if isinstance(sys, StateSpace) else min(sys.ninputs, sys.noutputs))
    angles = max(1, min(count, BLOCK // per_angle))
    systems = max(1, BLOCK // (per_angle * angles))
    rows = []
    for i in range(0, total, systems):
        part, end = sys[i : min(i + systems, total)], min(i + systems, total)
        row = [f(part, theta[i:end, k : min(k + angles, count)]) for k in range(0, count, angles)]
        rows.append(sys.xp.concat(row, axis=-1))
    return sys.xp.concat(rows, axis=0)
