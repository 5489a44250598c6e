"""Numbers that a control engineer reads off a Bode plot: gain at frequency 0, bandwidth, resonance peaks."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Inexact, Int

from ssm_analysis.analyses.gramians.stability import made_stable
from ssm_analysis.analyses.norms.frequency_grids import EVEN, dense_grid, diagonal_grid, in_blocks
from ssm_analysis.analyses.responses.frequency import residues
from ssm_analysis.analyses.responses.gains import all_modes, flattened, gain, gain_slope
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import (
    Array,
    arange,
    array_namespace,
    complex_from,
    device,
    expm1,
    eye,
    imag,
    is_complex,
    matmul,
    real,
    stop_gradient,
    to_complex,
    to_numpy,
)

KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace)
SPACING = 2 * math.pi / EVEN
"""Distance of the angles of the even grid, in radians. Around poles nearer to the circle the grid is finer."""
WIDER = 32.0
"""Between the half-width of such a pole and ``SPACING`` the grid is repeated, wider by this factor: a pole and a zero at the
distance d from it keep the gain 3 dB low from 0.6 d to 3.4 d, which 1/2, 1, 2, 4, 16, 32, ... half-widths cannot miss."""
FLAT = 1e-12
"""Relative slope per radian below which a gain counts as level: rounding has no other sign."""
PROMINENCE = 1e-9
"""Share of the largest gain by which a local maximum must rise above its surroundings. Rounding makes smaller ones."""
HALVINGS = 26
"""How often an interval between two frequencies of the grid is halved, to 1.5e-8 of it: at a turning point the gain is
then off by the square of that, and at a band edge one step of Newton's rule follows, which squares it too."""

Angles = Float[Array, "batch k"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Resonances:
    """The highest local maxima of the gain |G| over 0 <= omega dt <= pi, highest first; NaN where there are fewer.

    Parameters
    ----------
    frequency
        The frequencies of the maxima in rad/token, to about 1e-7 of the width of the peak; their gradients are not followed.
    gain
        The gains |G| there, in units of output per input.
    """

    frequency: Float[Array, "*batch k"]
    gain: Float[Array, "*batch k"]


def dcgain(sys: LTI) -> Inexact[Array, "*batch p m"]:
    """Return the gain at frequency 0, G(1) = C (1 - A)^{-1} B + D, real for systems with real matrices.

    Same as ``control.dcgain``, for a batch: the transfer function at frequency 0, which is the limit of the step
    response where the system is stable. Infinite where a mode with a residue lies exactly at 1.

    Parameters
    ----------
    sys
        A time-invariant system.

    Returns
    -------
    Array
        The matrix G(1) of each system, in units of output per input.

    Raises
    ------
    ValueError
        If the A of a `StateSpace` has an eigenvalue at 1, which rounding does not let tell from one that no input reaches.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> float(dcgain(DiagonalSSM(log_poles=np.asarray([-1e-12]), B=one, C=one, D=0 * one))[0, 0].round(3))
    1000000000000.5
    """
    check_system(sys, KINDS, "dcgain")
    sys = in_double(sys)
    xp = sys.xp
    if isinstance(sys, StateSpace):
        return matmul(sys.C, _settled(sys)) + sys.D
    gap, W = -expm1(sys.log_poles), residues(sys)
    at_one = gap == 0
    weight = xp.where(at_one, xp.zeros_like(gap), 1 / xp.where(at_one, xp.ones_like(gap), gap))
    G, blocked = matmul(weight[..., None, :], W), matmul(xp.astype(at_one, W.dtype)[..., None, :], W)
    if isinstance(sys, RealDiagonalSSM):
        G, blocked = real(G), real(blocked)
    G = xp.where(blocked == 0, G, xp.full_like(G, math.inf))
    return xp.reshape(G, (*sys.batch_shape, sys.noutputs, sys.ninputs)) + sys.D


def bandwidth(sys: LTI, *, drop_db: float = -3.0) -> Float[Array, "*batch"]:
    """Return the first frequency, in rad/token, where the gain has dropped by ``drop_db`` from that at frequency 0.

    It is what ``control.bandwidth`` returns for continuous time, for a batch. For a discrete system that function evaluates
    G(i omega) instead of G(e^{i omega dt}) (version 0.10.2), and it compares with the signed gain at frequency 0, so that it
    answers infinity where that is negative. For a kernel that is not real only positive frequencies are searched.

    Parameters
    ----------
    sys
        A time-invariant system with one input and one output.
    drop_db
        The drop of the gain in decibels, negative.

    Returns
    -------
    Array
        The bandwidth of each system in rad/token: infinite where the gain never drops so far, NaN where it is 0 at frequency 0, or
        the system is not stable.

    Raises
    ------
    ValueError
        If the system has several inputs or outputs, or ``drop_db`` is not negative.

    Examples
    --------
    >>> from ssm_analysis.analyses.norms import bandwidth
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.asarray([-0.01]), B=one, C=one, D=0 * one)
    >>> float(bandwidth(sys).round(5))  # a little less than the rate 0.01, as 3 dB are a little less than a factor sqrt(2)
    0.00998
    """
    _check_siso(sys, "bandwidth")
    if not drop_db < 0:
        raise ValueError(f"drop_db must be negative (decibels), got {drop_db}")
    safe, growing = made_stable(in_double(sys))
    xp, whole = sys.xp, flattened(all_modes(safe))
    level = 10 ** (drop_db / 20) * xp.abs(dcgain(whole)[..., 0])
    edge = _first_below(flattened(safe).map(stop_gradient), stop_gradient(level))
    some = xp.isfinite(edge)
    # one step of Newton's rule for gain^2 = level^2, which brings in the gradient too
    at = xp.where(some, edge, xp.zeros_like(edge))
    slope = gain_slope(whole.map(stop_gradient), at)
    excess = xp.where(slope < 0, gain(whole, at) ** 2 - level**2, xp.zeros_like(slope))
    edge = xp.where(some, at - excess / (2 * xp.where(slope < 0, slope, xp.ones_like(slope))), edge) / sys.dt
    edge = xp.reshape(xp.where(level > 0, edge, xp.full_like(edge, math.nan)), sys.batch_shape)
    return xp.where(growing, xp.full_like(edge, math.nan), edge)


def resonances(sys: LTI, count: int = 3) -> Resonances:
    """Find the ``count`` highest local maxima of the gain over 0 <= omega dt <= pi, the ends included.

    The largest is the H-infinity norm of a system with a real kernel. Maxima that rise less than 1e-9 of the largest gain
    above their surroundings are left out.

    Parameters
    ----------
    sys
        A time-invariant system with one input and one output.
    count
        The number of maxima that are returned.

    Returns
    -------
    Resonances
        Frequencies and gains, the highest first; NaN where there are fewer, and for systems that are not stable.

    Raises
    ------
    ValueError
        If the system has several inputs or outputs, or ``count`` is not positive.

    Examples
    --------
    >>> from ssm_analysis.analyses.norms import resonances
    >>> one = np.ones((1, 1))
    >>> peak = resonances(DiagonalSSM(log_poles=np.asarray([-1e-3 + 1j]), B=one, C=one, D=0 * one), 1)
    >>> peak.frequency.round(6), peak.gain.round(3)  # 1 / (1 - |lambda|)
    (array([1.]), array([1000.5]))
    """
    _check_siso(sys, "resonances")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"count must be a positive integer, got {count!r}")
    safe, growing = made_stable(in_double(sys))
    grid, height = _curve(flattened(safe).map(stop_gradient))
    xp, peaks = sys.xp, _highest(to_numpy(height), count)
    omega = xp.take_along_axis(grid, xp.asarray(np.maximum(peaks, 0), device=device(grid)), axis=-1)
    exists = xp.asarray(peaks >= 0, device=device(grid)) & ~xp.reshape(growing, (-1, 1))
    nan, shape = xp.full_like(omega, math.nan), (*sys.batch_shape, count)
    top = gain(flattened(all_modes(safe)), omega)
    frequency, top = xp.where(exists, omega / sys.dt, nan), xp.where(exists, top, nan)
    return Resonances(frequency=xp.reshape(frequency, shape), gain=xp.reshape(top, shape))


def _settled(sys: StateSpace) -> Inexact[Array, "*batch n m"]:
    """Return (1 - A)^{-1} B, the states in equilibrium with constant unit inputs."""
    pencil = eye(sys.nstates, like=sys.A) - sys.A
    pencil, B = (pencil, sys.B) if is_complex(pencil) == is_complex(sys.B) else (to_complex(pencil), to_complex(sys.B))
    try:
        return sys.xp.linalg.solve(pencil, B)
    except (ValueError, RuntimeError) as error:  # what numpy's and torch's LinAlgError are
        if "singular" not in str(error).lower():
            raise
        raise ValueError(
            "dcgain has no answer for an A with an eigenvalue at 1, an integrator: its gain at frequency 0 is infinite unless no input "
            "reaches it; drop the system or that state"
        ) from error


def _first_below(sys: LTI, level: Float[Array, "batch 1"]) -> Float[Array, "batch 1"]:
    """Return the first angle where the gain falls through ``level``; infinite where it never does."""
    xp, whole = sys.xp, all_modes(sys)
    grid, height = _curve(sys)
    below = height < level
    index = xp.argmax(xp.astype(below, xp.int64), axis=-1, keepdims=True)
    high = xp.take_along_axis(grid, index, axis=-1)
    low = xp.take_along_axis(grid, xp.where(index > 0, index - 1, index), axis=-1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        under = gain(whole, middle) < level
        low, high = xp.where(under, low, middle), xp.where(under, middle, high)
    return xp.where(xp.any(below, axis=-1, keepdims=True), high, xp.full_like(high, math.inf))


def _curve(sys: LTI) -> tuple[Angles, Angles]:
    """Return ascending angles in [0, pi] that follow the poles and hold all turning points of the gain, and the gain there."""
    xp = sys.xp
    if isinstance(sys, StateSpace):
        whole = sys
        grid, height = dense_grid(sys, half=True)
        rise = height[..., 1:] - height[..., : height.shape[-1] - 1]
        rise = xp.where(xp.abs(rise) > FLAT * height[..., 1:], rise, xp.zeros_like(rise))
    else:
        whole = all_modes(sys)
        grid, height, rise = diagonal_grid(whole, _wider(sys.log_poles), half=True)
        rise = xp.where(xp.abs(rise) > FLAT * height**2, rise, xp.zeros_like(rise))
    turns = _turning_points(whole, grid, rise)
    if not turns.shape[-1]:
        return grid, height
    grid, height = xp.concat([grid, turns], axis=-1), xp.concat([height, in_blocks(gain, whole, turns)], axis=-1)
    order = xp.argsort(grid, axis=-1)
    return xp.take_along_axis(grid, order, axis=-1), xp.take_along_axis(height, order, axis=-1)


def _wider(mu: Inexact[Array, "batch n"]) -> Inexact[Array, "batch m"]:
    """Return the log-poles, and again with larger decay rates, until the grid around the narrowest meets the even one."""
    xp, width = array_namespace(mu), -real(mu)
    repeats = max(0, math.ceil(math.log(SPACING / float(xp.min(width)), WIDER)))
    width = width[..., None] * WIDER ** arange(0, repeats + 1, like=width)
    return xp.reshape(complex_from(-width, imag(mu)[..., None] + 0 * width), (mu.shape[0], -1))


def _turning_points(sys: DiagonalSSM | StateSpace, grid: Angles, rise: Float[Array, "batch s"]) -> Float[Array, "batch t"]:
    """Return where the slope changes its sign.

    ``rise`` holds the slopes at the angles, and the sign changes between two neighbors, or the differences of neighboring gains,
    and it changes among three.
    """
    xp, pairs = sys.xp, rise.shape[-1] - 1
    change = xp.astype(rise[..., :pairs] * rise[..., 1:] < 0, xp.int64)
    some = xp.argsort(change, axis=-1, descending=True)[..., : int(xp.max(xp.sum(change, axis=-1)))]
    low, high, up = (xp.take_along_axis(x[..., :pairs], some, axis=-1) for x in (grid, grid[..., grid.shape[-1] - pairs :], rise))
    for _ in range(HALVINGS if low.shape[-1] else 0):
        middle = (low + high) / 2
        before = in_blocks(gain_slope, sys, middle) * up > 0
        low, high = xp.where(before, middle, low), xp.where(before, high, middle)
    return (low + high) / 2


def _highest(height: Float[np.ndarray, "batch k"], count: int) -> Int[np.ndarray, "batch c"]:
    """Return the indices of the ``count`` highest local maxima, the highest first; -1 where there are fewer.

    Between two maxima, and somewhere else, the gain must be lower than the lower one: where angles of the grid coincide,
    rounding makes several of one.
    """
    indices = np.full((len(height), count), -1)
    for row, h in zip(indices, height, strict=True):
        floor, padded, chosen = PROMINENCE * np.max(h), np.pad(h, 1, constant_values=-1.0), []
        tops = np.flatnonzero((h >= padded[:-2]) & (h >= padded[2:]))
        for i in tops[np.argsort(-h[tops], kind="stable")]:
            valleys = [np.min(h)] + [np.min(h[min(i, j) : max(i, j)]) for j in chosen]
            if max(valleys) < h[i] - floor:
                chosen.append(i)
            if len(chosen) == count:
                break
        row[: len(chosen)] = chosen
    return indices


def _check_siso(sys: LTI, caller: str) -> None:
    """Raise an error unless the system is time-invariant and has one input and one output."""
    check_system(sys, KINDS, caller)
    if sys.ninputs != 1 or sys.noutputs != 1:
        raise ValueError(f"{caller} is about one input and one output, got {sys.ninputs} and {sys.noutputs}; pick a pair of channels first")
