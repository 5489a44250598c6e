r"""Search for the peak of the frequency response: the angle theta where sigma_max(G(e^{i theta})) is largest.

From the highest local maxima of the gain on a grid that follows the poles (`frequency_grids`) the slope is followed to 0.

References
----------
Ridders, IEEE Trans. Circuits Syst. 26 (1979) 979-980 (the root of the slope).
"""

import math

from jaxtyping import Float

from ssm_analysis.analyses.norms.frequency_grids import Angles, dense_grid, diagonal_grid, folded, in_blocks
from ssm_analysis.analyses.responses.gains import all_modes, flattened, gain, gain_slope, has_real_kernel
from ssm_analysis.systems import LTI, DiagonalSSM, StateSpace
from ssm_analysis.xp import Array, array_namespace, real

CLIMBS = 6
"""Local maxima of the grid that are refined."""
STEPS = 12
"""Iterations of Ridders at most: each at least halves the bracket, the last ones square its relative width."""
SMALL = 1e-7
"""Relative change of an angle at which its error, the square of it, is below rounding."""

Ends = tuple[Float[Array, "*batch c"], Float[Array, "*batch c"]]
"""Left and right ends of intervals."""


def peak_angle(sys: LTI) -> Float[Array, "*batch"]:
    """Return the angle theta of the largest gain found, in rad/step; ``sys`` must be stable, in 64 bits and without gradients."""
    if 0 in sys.batch_shape:
        return real(sys.B[..., 0, 0])
    half, flat = has_real_kernel(sys), flattened(sys)
    if isinstance(flat, StateSpace):
        whole = flat
        grid, height = dense_grid(flat, half=half)
        brackets = _around_maxima(grid, height, half=half)
    else:  # of each pair of poles of a real system only the stored one
        whole = all_modes(flat)
        grid, height, rise = diagonal_grid(whole, flat.log_poles, half=half)
        brackets = _where_slopes_fall(grid, height, rise, half=half)
    xp = sys.xp
    highest = xp.take_along_axis(grid, xp.argmax(height, axis=-1, keepdims=True), axis=-1)
    candidates = xp.concat([_climbed(whole, *brackets), highest], axis=-1)
    best = xp.argmax(in_blocks(gain, whole, candidates), axis=-1, keepdims=True)
    return xp.reshape(folded(xp.take_along_axis(candidates, best, axis=-1), half=half), sys.batch_shape)


def _around_maxima(grid: Angles, height: Angles, *, half: bool) -> Ends:
    """Return the angles before and after each of the ``CLIMBS`` highest local maxima; both are one angle where there are fewer."""
    xp = array_namespace(grid)
    before, after = xp.roll(grid, 1, axis=-1), xp.roll(grid, -1, axis=-1)
    before = xp.where(before > grid, grid if half else before - 2 * math.pi, before)
    after = xp.where(after < grid, grid if half else after + 2 * math.pi, after)
    peak = ((height >= xp.roll(height, 1, axis=-1)) | (before == grid)) & ((height >= xp.roll(height, -1, axis=-1)) | (after == grid))
    return _highest(xp.where(peak, height, -xp.ones_like(height)), before, after)


def _where_slopes_fall(grid: Angles, height: Angles, rise: Angles, *, half: bool) -> Ends:
    """Return the pairs of neighboring angles between which the slope falls through 0, those with the ``CLIMBS`` highest gains."""
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
    """Return the ends of the intervals with the ``CLIMBS`` largest heights; without extent where the height is negative."""
    xp = array_namespace(height)
    best = xp.argsort(height, axis=-1, descending=True)[..., :CLIMBS]
    height, left, right = (xp.take_along_axis(x, best, axis=-1) for x in (height, left, right))
    return left, xp.where(height < 0, left, right)


def _climbed(sys: DiagonalSSM | StateSpace, left: Angles, right: Angles) -> Angles:
    """Return where the slope falls through 0 between ``left`` and ``right``.

    Ridders' rule (IEEE Trans. Circuits Syst. 26 (1979) 979-980); halving toward the rise where the ends do not
    bracket a maximum after all.
    """
    xp, reach = sys.xp, right - left
    bracket = (left, in_blocks(gain_slope, sys, left), right, in_blocks(gain_slope, sys, right))
    theta = left
    for _ in range(STEPS):
        lo, s_lo, hi, s_hi = bracket
        middle = (lo + hi) / 2
        s = in_blocks(gain_slope, sys, middle)
        bracketed = (s_lo > 0) & (s_hi < 0)
        scale = xp.sqrt(xp.where(bracketed, s * s - s_lo * s_hi, xp.ones_like(s)))
        jump = (hi - lo) / 2 * s / xp.where(scale > 0, scale, xp.ones_like(s))  # slopes below 1e-154 have no square
        previous, theta = theta, xp.where(bracketed, middle + jump, middle)
        bracket = _cut(_cut(bracket, middle, s), theta, in_blocks(gain_slope, sys, theta))
        if bool(xp.all(xp.abs(theta - previous) <= SMALL * reach)):
            break
    return theta


def _cut(bracket: tuple[Angles, Angles, Angles, Angles], theta: Angles, s: Angles) -> tuple[Angles, Angles, Angles, Angles]:
    """Return the bracket (left, slope, right, slope) with ``theta`` in the place of one end, if it lies inside."""
    lo, s_lo, hi, s_hi = bracket
    xp, inside = array_namespace(theta), (theta > lo) & (theta < hi)
    rise, fall = inside & (s > 0), inside & ~(s > 0)
    return xp.where(rise, theta, lo), xp.where(rise, s, s_lo), xp.where(fall, theta, hi), xp.where(fall, s, s_hi)
