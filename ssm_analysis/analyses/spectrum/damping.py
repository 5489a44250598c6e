"""The damping table: what each pole does in words of oscillation and decay."""

import math
from dataclasses import dataclass

from jaxtyping import Bool, Float, Inexact

from ssm_analysis.analyses.spectrum.modes import rates, times
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import Array, imag, real

KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace)
BEYOND = math.pi * (1 + 2**-50)
"""An angle above it is more than half a turn; pi computed as a sum of two angles can be a few roundings too large."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Damping:
    """One entry for each mode, in the order of ``sys.poles()``.

    Parameters
    ----------
    poles
        lambda.
    magnitude
        |lambda|.
    damping
        Damping ratio zeta = -cos(arg log lambda), dimensionless: 1 pure decay, 0 undamped, negative growing; NaN at lambda = 1,
        where there is neither.
    natural_frequency
        |log lambda| / dt, rad/token, with arg lambda between -pi and pi: of all continuous modes that look like this one from
        token to token, the slowest.
    oscillation
        |arg lambda| / (2 pi dt), cycles/token: what the kernel of the mode shows, at most 1/2.
    time_constant
        -dt / log|lambda|, tokens; infinite on and outside the circle.
    aliased
        Whether the continuous-time frequency times the step exceeds pi, so that one token is too long to show it. Known only where
        log-poles keep it: diagonal systems discretized by zero-order hold. Always false for dense systems and bilinear rules.
    """

    poles: Inexact[Array, "*batch n"]
    magnitude: Float[Array, "*batch n"]
    damping: Float[Array, "*batch n"]
    natural_frequency: Float[Array, "*batch n"]
    oscillation: Float[Array, "*batch n"]
    time_constant: Float[Array, "*batch n"]
    aliased: Bool[Array, "*batch n"]


def damp(sys: LTI) -> Damping:
    """Return natural frequency and damping of s = log(lambda) / dt for each pole.

    Same as ``control.damp``, for a batch, with the magnitudes and time constants that MATLAB's ``damp`` adds. A
    `RealDiagonalSSM` lists one of each conjugate pair. A pole at 0 decays at once: damping 1, infinite natural frequency,
    time constant 0. Time constants of growing modes are infinite, where MATLAB's are negative.

    References
    ----------
    Franklin, Powell, Workman, Digital Control of Dynamic Systems, 3rd ed., section 4.1.

    Examples
    --------
    >>> from ssm_analysis.analyses.spectrum.damping import damp
    >>> one = np.ones((1, 1))
    >>> damp(DiagonalSSM(log_poles=np.asarray([-0.3 + 0.4j]), B=one, C=one, D=0 * one)).damping
    array([0.6])
    """
    check_system(sys, KINDS, "damp")
    sys = in_double(sys)
    xp, rate, poles = sys.xp, rates(sys), sys.poles()
    if isinstance(sys, StateSpace):
        turn, angle = xp.zeros_like(rate), xp.atan2(imag(poles), real(poles))
    else:  # not from the pole, which underflows to 0 before its decay rate overflows
        turn = imag(sys.log_poles)
        angle = xp.atan2(xp.sin(turn), xp.cos(turn))
    instant = ~xp.isfinite(rate)  # a pole at 0
    at_one = (rate == 0) & (angle == 0)
    decay = xp.where(instant | at_one, xp.ones_like(rate), rate)
    frequency = xp.hypot(decay, angle)
    ratio = xp.where(instant, xp.ones_like(rate), decay / frequency)
    frequency = xp.where(at_one, xp.zeros_like(rate), frequency)
    return Damping(
        poles=poles,
        magnitude=xp.exp(-rate),
        damping=xp.where(at_one, xp.full_like(rate, math.nan), ratio),
        natural_frequency=xp.where(instant, xp.full_like(rate, math.inf), frequency) / sys.dt,
        oscillation=xp.abs(angle) / (2 * math.pi * sys.dt),
        time_constant=times(rate) * sys.dt,
        aliased=xp.abs(turn) > BEYOND,
    )
