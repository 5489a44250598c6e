"""Poles and the time scales they stand for."""

import math

from jaxtyping import Float, Inexact

from ssm_analysis.systems import DiagonalLTV, DiagonalRecurrence, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import System, check_system, in_double
from ssm_analysis.xp import Array, array_namespace, device, real

KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace, DiagonalLTV, DiagonalRecurrence)


def poles(sys: System) -> Inexact[Array, "*batch n"]:
    """Return eigenvalues of A; of each moment, time first, where the system varies with time.

    Same as ``control.poles``, for a batch. A `RealDiagonalSSM` has one of each conjugate pair; ``expand()`` has both.
    """
    check_system(sys, KINDS, "poles")
    return in_double(sys).poles()


def decay_rates(sys: System) -> Float[Array, "*batch n"]:
    """Return -log|lambda|, per token: without cancellation near the circle where the system is diagonal."""
    check_system(sys, KINDS, "decay_rates")
    return rates(in_double(sys))


def margins(sys: System) -> Float[Array, "*batch n"]:
    """Return 1 - |lambda|, the distance to the unit circle, negative outside; without cancellation where the system is diagonal."""
    check_system(sys, KINDS, "margins")
    return -sys.xp.expm1(-rates(in_double(sys)))


def spectral_radius(sys: System) -> Float[Array, "*batch"]:
    """Return max |lambda|."""
    check_system(sys, KINDS, "spectral_radius")
    return sys.xp.exp(-sys.xp.min(rates(in_double(sys)), axis=-1))


def time_constants(sys: System) -> Float[Array, "*batch n"]:
    """Return -1 / log|lambda|, tokens (units of dt): after so long a mode has decayed to 1/e. Infinite on and outside the circle.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> time_constants(DiagonalSSM(log_poles=np.asarray([-0.01]), B=one, C=one, D=0 * one))
    array([100.])
    """
    check_system(sys, KINDS, "time_constants")
    return times(rates(in_double(sys))) * sys.dt


def rates(sys: System) -> Float[Array, "*batch n"]:
    """Return -log|lambda| of a system in 64 bits; infinite at a pole 0."""
    if not isinstance(sys, StateSpace):
        return -real(sys.log_poles)  # type: ignore[attr-defined]
    xp = sys.xp
    size = xp.abs(sys.poles())
    zero = size == 0
    return xp.where(zero, xp.full_like(size, math.inf), -xp.log(xp.where(zero, xp.ones_like(size), size)))


def times(rate: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """Return 1 / rate, infinite where nothing decays."""
    xp = array_namespace(rate)
    decays = rate > 0
    infinite = xp.asarray(math.inf, dtype=rate.dtype, device=device(rate))
    return xp.where(decays, 1 / xp.where(decays, rate, xp.ones_like(rate)), infinite)
