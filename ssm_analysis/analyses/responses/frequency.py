"""Transfer function and frequency response of time-invariant systems."""

from jaxtyping import Complex, Float, Inexact

from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_library, check_system, in_double
from ssm_analysis.systems.transfer import evaluate, transfer_at
from ssm_analysis.systems.transfer import residues as residues
from ssm_analysis.xp import Array, complex_from, is_array, is_complex

KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace)


def transfer_function(sys: LTI, z: complex | Inexact[Array, "..."]) -> Complex[Array, "... p m"]:
    """Return G(z) = C (z - A)^{-1} B + D, shape (*batch, *z.shape, p, m).

    Same as ``sys(z)`` in python-control, for a batch and with the inputs and outputs last. At a pole it is infinite
    (diagonal systems) or a ValueError (`StateSpace`, whose eigenvalues are known to rounding only).
    """
    check_system(sys, KINDS, "transfer_function")
    return transfer_at(sys, z)


def frequency_response(sys: LTI, omega: Float[Array, "f"]) -> Complex[Array, "*batch f p m"]:
    r"""Return G(e^{i omega dt}) = C (e^{i omega dt} - A)^{-1} B + D.

    Same as ``control.frequency_response``, for a batch of complex systems: ``omega`` may be negative, and for a
    system whose kernel is not real G(-omega) is not the conjugate of G(omega).

    Parameters
    ----------
    sys
        A time-invariant system.
    omega
        Frequencies in rad/token (rad per unit of time where dt is not 1).

    Raises
    ------
    TypeError
        If ``sys`` is not a time-invariant system or ``omega`` not an array of its library.
    ValueError
        If ``omega`` is complex or not of shape (f,), or meets an eigenvalue of a `StateSpace`; a diagonal system has
        an infinite gain at its poles.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)  # 1/(z - 0.5)
    >>> abs(frequency_response(sys, np.array([0.0, np.pi]))[:, 0, 0]).round(6)
    array([2.      , 0.666667])
    """
    check_system(sys, KINDS, "frequency_response")
    xp = sys.xp
    if not is_array(omega) or omega.ndim != 1 or is_complex(omega):
        got = f"{omega.dtype} of shape {tuple(omega.shape)}" if is_array(omega) else type(omega).__name__
        raise ValueError(f"omega must be a real array of shape (f,), got {got}")
    check_library(sys, "omega", omega)
    omega = xp.astype(omega, xp.float64) * sys.dt
    return evaluate(in_double(sys), complex_from(xp.cos(omega), xp.sin(omega)))
