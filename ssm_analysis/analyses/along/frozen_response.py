"""The frequency response of one moment of a time-varying system, kept apart from the gain of the system itself."""

from dataclasses import dataclass

from jaxtyping import Complex, Float

from ssm_analysis.analyses.responses.frequency import frequency_response
from ssm_analysis.systems import DiagonalLTV
from ssm_analysis.systems.base import check_system
from ssm_analysis.xp import Array


@dataclass(frozen=True, eq=False, kw_only=True)
class FrozenResponse:
    """The frequency response of the system that would keep the matrices of one step for ever. NOT the gain of the time-varying system.

    A sine does not pass through a time-varying system as a sine, and neither the peak of a frozen response nor the largest of all
    of them bounds what the system does along its input: `energy_gain` measures that.

    Parameters
    ----------
    at
        The step whose matrices are kept, counted from 0.
    omega
        Frequencies, rad/token.
    response
        C[t] (e^{i omega} - Lambda[t])^{-1} B[t] + D[t], in units of output per input.
    """

    at: int
    omega: Float[Array, " f"]
    response: Complex[Array, "*batch f p m"]


def frozen_response(sys: DiagonalLTV, at: int, omega: Float[Array, " f"]) -> FrozenResponse:
    """Return the frequency response of the system that would keep the matrices of step ``at`` for ever, labeled as what it is.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.
    at
        The step, counted from 0, or from the end where negative.
    omega
        Frequencies in rad/token.

    Returns
    -------
    FrozenResponse
        `frequency_response` of ``sys.frozen(at)``, with the step and the frequencies.

    Raises
    ------
    IndexError
        If ``at`` is not a step of the system.

    Examples
    --------
    >>> from ssm_analysis.analyses.along import frozen_response
    >>> one = np.ones((2, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.log([[0.1], [0.5]]), B=one, C=one, D=0 * one)
    >>> frozen_response(sys, 1, np.zeros(1)).response[:, 0, 0].round(6)
    array([2.+0.j])
    """
    check_system(sys, DiagonalLTV, "frozen_response")
    return FrozenResponse(at=at % sys.length, omega=omega, response=frequency_response(sys.frozen(at), omega))
