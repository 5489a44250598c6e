r"""H2 and H-infinity norms; the Hankel norm stands beside the Hankel singular values, and the l1 norm has a file of its own.

Norms belong to the state-space system as it is written: a system with a pole on or outside the unit circle has an
infinite norm even if no input reaches that pole or no output sees it, as in ``control.norm``.
"""

import math
from dataclasses import dataclass

from jaxtyping import Float

from ssm_analysis.analyses.gramians.energy import kernel_energy
from ssm_analysis.analyses.gramians.stability import KINDS, infinite_where, made_stable
from ssm_analysis.analyses.norms.certified_hinf import peak_bounds
from ssm_analysis.analyses.norms.peak_search import peak_angle
from ssm_analysis.analyses.responses.gains import all_modes, flattened, gain
from ssm_analysis.systems import LTI
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import Array, device, stop_gradient, to_numpy


@dataclass(frozen=True, eq=False, kw_only=True)
class PeakGain:
    """The highest point of the frequency response.

    Parameters
    ----------
    gain
        The largest sigma_max(G(e^{i omega dt})), in units of output per input; infinite where the system is not stable.
    omega
        The frequency of the peak in rad/token, in (-pi, pi] / dt, and in [0, pi] / dt where the response is symmetric by the form
        of the system; NaN where the system is not stable. Its gradient is not followed.
    """

    gain: Float[Array, "*batch"]
    omega: Float[Array, "*batch"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Bounds:
    """Two numbers between which a norm is proved to lie, for the parameters as they are stored in 64 bits.

    Parameters
    ----------
    lower, upper
        The bounds of each system, in units of output per input; both are infinite where the system is not stable.
    """

    lower: Float[Array, "*batch"]
    upper: Float[Array, "*batch"]


def h2_norm(sys: LTI) -> Float[Array, "*batch"]:
    r"""Return the H2 norm sqrt(trace(C P C* + D D*)), the root of the energy of the kernel; infinite where a system is not stable.

    Same as ``control.norm(sys, 2)`` for a discrete system, for a batch. For diagonal systems it is the Frobenius norm of
    [C L, D] with P = L L*, so that the small norm of a difference does not drown in the rounding of P. Where it is 0 it has
    no finite gradient; `h2_norm_squared` has one.

    Parameters
    ----------
    sys
        A time-invariant system.

    Returns
    -------
    Array
        The norm of each system, in units of output per input.

    References
    ----------
    Antoulas, Approximation of Large-Scale Dynamical Systems, SIAM (2005), section 5.5 (the H2 norm by Gramians).

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)  # 1/(z - 0.5)
    >>> float(h2_norm(sys).round(6))
    1.154701
    """
    check_system(sys, KINDS, "h2_norm")
    return sys.xp.sqrt(kernel_energy(sys))


def hinf_norm(sys: LTI) -> Float[Array, "*batch"]:
    r"""Return the H-infinity norm, the peak gain sup_omega sigma_max(G(e^{i omega dt})); infinite where a system is not stable.

    Same as ``control.norm(sys, "inf")``, for a batch; see `hinf_peak`.

    Parameters
    ----------
    sys
        A time-invariant system.

    Returns
    -------
    Array
        The norm of each system, in units of output per input: a value that the response attains, to rounding.

    References
    ----------
    Bruinsma, Steinbuch, Syst. Control Lett. 14 (1990) 287-293 (the norm); the search is described in `peak_search`.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)  # 1/(z - 0.5)
    >>> float(hinf_norm(sys).round(6))
    2.0
    """
    check_system(sys, KINDS, "hinf_norm")
    return _peak(sys).gain


def hinf_peak(sys: LTI) -> PeakGain:
    """Find the highest point of the frequency response by a search that follows the poles.

    Same as ``control.linfnorm(sys)``, for a batch. The gain is attained, to rounding, so it is a lower bound of the norm;
    that no peak was missed is very likely, and proved by `hinf_bounds`. The gradient is that of the gain at the peak
    (Danskin's theorem).

    Parameters
    ----------
    sys
        A time-invariant system.

    Returns
    -------
    PeakGain
        The largest gain and its frequency, for each system.

    References
    ----------
    Ridders, IEEE Trans. Circuits Syst. 26 (1979) 979-980 (the iteration that refines the peak).

    Examples
    --------
    >>> from ssm_analysis.analyses.norms import hinf_peak
    >>> one = np.ones((1, 1))
    >>> peak = hinf_peak(DiagonalSSM(log_poles=np.asarray([-1e-3 + 1j]), B=one, C=one, D=0 * one))
    >>> float(peak.gain.round(3)), float(peak.omega.round(6))
    (1000.5, 1.0)
    """
    check_system(sys, KINDS, "hinf_peak")
    return _peak(sys)


def hinf_bounds(sys: LTI, *, rtol: float = 1e-6) -> Bounds:
    """Return certified bounds of the H-infinity norm, by branch and bound over the frequency circle.

    Every upper bound includes a bound of its own rounding. The bounds stay further apart than ``rtol`` where rounding
    does not allow more (a pole at the distance d from the circle costs about 1e-16 / d), or where a full A is so far
    from normal that 10^5 arcs per system do not suffice; ``upper`` is infinite where a full A cannot be proved stable.

    Parameters
    ----------
    sys
        A time-invariant system. Diagonal systems are much cheaper than full ones.
    rtol
        The relative distance of the two bounds at which they are close enough.

    Returns
    -------
    Bounds
        A lower and an upper bound for each system.

    Raises
    ------
    ValueError
        If ``rtol`` is not positive.

    References
    ----------
    The bounds are derived in `arc_enclosures`.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> bounds = hinf_bounds(DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one))
    >>> bool(bounds.lower <= 2 <= bounds.upper <= 2 * (1 + 1e-6))
    True
    """
    check_system(sys, KINDS, "hinf_bounds")
    if not rtol > 0:
        raise ValueError(f"rtol must be a positive number, the relative distance of the two bounds, got {rtol}")
    xp = sys.xp
    stable, unstable = made_stable(in_double(sys.map(stop_gradient)))
    flat = flattened(stable)
    bounds = peak_bounds(flat, to_numpy(peak_angle(flat)), rtol=rtol)
    lower, upper = (xp.reshape(xp.asarray(x, device=device(sys.B)), sys.batch_shape) for x in bounds)
    return Bounds(lower=infinite_where(unstable, lower), upper=infinite_where(unstable, upper))


def _peak(sys: LTI) -> PeakGain:
    """Return the peak of a batch of which some systems may be unstable."""
    stable, unstable = made_stable(in_double(sys))
    theta = peak_angle(stable.map(stop_gradient))
    height = gain(all_modes(stable), theta[..., None])[..., 0]
    omega = sys.xp.where(unstable, sys.xp.full_like(theta, math.nan), theta / sys.dt)
    return PeakGain(gain=infinite_where(unstable, height), omega=omega)
