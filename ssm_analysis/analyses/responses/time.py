"""Markov parameters, impulse and step response of time-invariant systems, in 64 bits."""

from jaxtyping import Inexact

from ssm_analysis.analyses.responses.kernels import kernel
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import Array

KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace)


def markov_parameters(sys: LTI, length: int) -> Inexact[Array, "*batch l p m"]:
    """Return D, C B, C A B, C A^2 B, ...: the convolution kernel.

    Same as ``control.markov`` of a noiseless impulse, for a batch. Powers of A come in two levels, joined by one matrix
    product: the cost of a diagonal system is that of n multiplications for each entry.

    Raises
    ------
    TypeError
        If ``sys`` is not a time-invariant system.
    ValueError
        If ``length`` is not a positive integer.

    Examples
    --------
    >>> from ssm_analysis.analyses.responses.time import markov_parameters
    >>> one = np.ones((1, 1))
    >>> markov_parameters(DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one), 4)[:, 0, 0].round(6)
    array([0.  , 1.  , 0.5 , 0.25])
    """
    return _kernel(sys, length, "markov_parameters")


def impulse_response(sys: LTI, length: int) -> Inexact[Array, "*batch l p m"]:
    """Return y for u = (1, 0, 0, ...), one column for each input: the Markov parameters, read as a signal.

    The pulse has height 1 whatever dt is; that of ``control.impulse_response`` has area 1 and height 1/dt.

    Raises
    ------
    TypeError
        If ``sys`` is not a time-invariant system.
    ValueError
        If ``length`` is not a positive integer.
    """
    return _kernel(sys, length, "impulse_response")


def step_response(sys: LTI, length: int) -> Inexact[Array, "*batch l p m"]:
    """Return y for u = (1, 1, 1, ...), one column for each input: the running sum of the impulse response.

    Same as ``control.step_response``, for a batch.

    Raises
    ------
    TypeError
        If ``sys`` is not a time-invariant system.
    ValueError
        If ``length`` is not a positive integer.

    Examples
    --------
    >>> from ssm_analysis.analyses.responses.time import step_response
    >>> one = np.ones((1, 1))
    >>> step_response(DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one), 4)[:, 0, 0].round(6)
    array([0.  , 1.  , 1.5 , 1.75])
    """
    K = _kernel(sys, length, "step_response")
    return sys.xp.cumulative_sum(K, axis=K.ndim - 3)


def _kernel(sys: LTI, length: int, caller: str) -> Inexact[Array, "*batch l p m"]:
    check_system(sys, KINDS, caller)
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise ValueError(f"length must be a positive integer (tokens), got {length!r}")
    return kernel(in_double(sys), length)
