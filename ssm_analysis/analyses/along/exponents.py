"""Growth rates of a time-varying diagonal system along the trajectory that is at hand: finite in time, and so of this input.

The states of a diagonal system do not mix, so its spectrum of exponents is one number for each state, and what the frozen
poles say moment by moment is averaged, not multiplied out: all |lambda[k]| < 1 prove decay, and some |lambda[k]| >= 1 disprove nothing.
"""

from jaxtyping import Float

from ssm_analysis.systems import DiagonalLTV, DiagonalRecurrence
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import Array, array_namespace, real

KINDS = (DiagonalLTV, DiagonalRecurrence)


def lyapunov_exponents(sys: DiagonalLTV | DiagonalRecurrence) -> Float[Array, "*batch n"]:
    """Return the average growth of each state over the L tokens, log|lambda[0] ... lambda[L-1]| / L.

    The Lyapunov exponent is the limit for L to infinity; this is its finite-time value along one input.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.

    Returns
    -------
    Array
        One exponent for each state, in nats per token; negative where the state decays.

    References
    ----------
    Barreira, Pesin, Lyapunov Exponents and Smooth Ergodic Theory, AMS (2002).

    Examples
    --------
    >>> from ssm_analysis.analyses.along import lyapunov_exponents
    >>> one = np.ones((2, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.array([[-0.1], [-0.5]]), B=one, C=one, D=0 * one)
    >>> lyapunov_exponents(sys).round(6)
    array([-0.3])
    """
    check_system(sys, KINDS, "lyapunov_exponents")
    return array_namespace(sys.log_poles).mean(real(in_double(sys).log_poles), axis=0)


def bohl_exponents(sys: DiagonalLTV | DiagonalRecurrence, *, window: int) -> Float[Array, "*batch n"]:
    """Return the slowest decay of each state over any ``window`` tokens, max_t log|lambda[t] ... lambda[t+w-1]| / w.

    The upper Bohl exponent, which decides on uniform exponential stability, is the limit for w to infinity; a value for one w
    along one input proves nothing about other inputs. For w = L it is `lyapunov_exponents`, for w = 1 the slowest frozen pole.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.
    window
        The number w of consecutive tokens, from 1 to L.

    Returns
    -------
    Array
        One exponent for each state, in nats per token; negative where the state decays over every window.

    Raises
    ------
    ValueError
        If ``window`` is not an integer from 1 to L.

    References
    ----------
    Daleckii, Krein, Stability of Solutions of Differential Equations in Banach Space, AMS (1974), chapter III.

    Examples
    --------
    >>> from ssm_analysis.analyses.along import bohl_exponents
    >>> one = np.ones((3, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.array([[-0.1], [-0.5], [-0.2]]), B=one, C=one, D=0 * one)
    >>> bohl_exponents(sys, window=2).round(6)
    array([-0.3])
    """
    check_system(sys, KINDS, "bohl_exponents")
    length = sys.log_poles.shape[0]
    if not isinstance(window, int) or isinstance(window, bool) or not 1 <= window <= length:
        raise ValueError(f"window must be an integer from 1 to {length}, the number of tokens, got {window!r}")
    xp, growth = sys.xp, real(in_double(sys).log_poles)
    mean = xp.mean(growth, axis=0)
    total = xp.cumulative_sum(growth - mean, axis=0, include_initial=True)  # without its mean it stays small, and so does its rounding
    return mean + xp.max(total[window:, ...] - total[: length + 1 - window, ...], axis=0) / window
