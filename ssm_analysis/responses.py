"""Transfer function, frequency response and Markov parameters of time-invariant systems."""

import math

from jaxtyping import Complex, Float, Inexact

from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_library, check_system, in_double
from ssm_analysis.xp import Array, complex_from, conj, device, eye, is_array, is_complex, matmul, to_complex

KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace)
BLOCK = 2**18
"""Resolvent entries formed at a time; they stay in the cache, and memory stays bounded."""


def transfer_function(sys: LTI, z: complex | Inexact[Array, "..."]) -> Complex[Array, "... p m"]:
    """G(z) = C (z - A)^{-1} B + D, shape (*batch, *z.shape, p, m).

    Same as ``sys(z)`` in python-control, for a batch and with the inputs and outputs last. At a pole it is infinite
    (diagonal systems) or a ValueError (`StateSpace`, whose eigenvalues are known to rounding only).
    """
    check_system(sys, KINDS, "transfer_function")
    xp = sys.xp
    number = isinstance(z, int | float | complex)
    if not (number or is_array(z)):
        raise TypeError(f"z must be a number or an array of the library of the system, got {type(z).__name__}")
    points: Array = xp.asarray(z, dtype=xp.complex128, device=device(sys.B)) if number else z
    check_library(sys, "z", points)
    G = _evaluate(in_double(sys), xp.reshape(xp.astype(points, xp.complex128), (-1,)))
    return xp.reshape(G, (*sys.batch_shape, *points.shape, sys.noutputs, sys.ninputs))


def frequency_response(sys: LTI, omega: Float[Array, "f"]) -> Complex[Array, "*batch f p m"]:
    r"""G(e^{i omega dt}) = C (e^{i omega dt} - A)^{-1} B + D.

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
    return _evaluate(in_double(sys), complex_from(xp.cos(omega), xp.sin(omega)))


def _evaluate(sys: LTI, z: Complex[Array, " f"]) -> Complex[Array, "*batch f p m"]:
    return _strictly_proper(sys, z) + sys.D[..., None, :, :]


def _strictly_proper(sys: LTI, z: Complex[Array, " f"]) -> Complex[Array, "*batch f p m"]:
    if isinstance(sys, RealDiagonalSSM):
        half = DiagonalSSM(log_poles=sys.log_poles, B=sys.B, C=sys.C / 2, D=sys.D, dt=sys.dt)
        return _strictly_proper(half, z) + conj(_strictly_proper(half, conj(z)))
    part, per_point = (_diagonal, sys.nstates) if isinstance(sys, DiagonalSSM) else (_dense, sys.nstates**2)
    step = max(1, BLOCK // max(1, per_point * math.prod(sys.batch_shape)))
    blocks = [part(sys, z[i : min(i + step, z.shape[0])]) for i in range(0, max(1, z.shape[0]), step)]
    return sys.xp.concat(blocks, axis=-3)


def _diagonal(sys: DiagonalSSM, z: Complex[Array, " f"]) -> Complex[Array, "*batch f p m"]:
    xp, W = sys.xp, residues(sys)
    gap = z[:, None] - xp.exp(sys.log_poles)[..., None, :]
    at_pole = gap == 0
    if bool(xp.any(at_pole)):  # infinite, unless the residues there cancel or are 0
        resolvent = xp.where(at_pole, xp.zeros_like(gap), 1 / xp.where(at_pole, xp.ones_like(gap), gap))
        G, pole_part = matmul(resolvent, W), matmul(xp.astype(at_pole, gap.dtype), W)
        G = xp.where(pole_part == 0, G, xp.full_like(G, math.inf))
    else:
        G = matmul(1 / gap, W)
    return xp.reshape(G, (*G.shape[:-1], sys.noutputs, sys.ninputs))


def _dense(sys: StateSpace, z: Complex[Array, " f"]) -> Complex[Array, "*batch f p m"]:
    A, B, C = (to_complex(x)[..., None, :, :] for x in (sys.A, sys.B, sys.C))
    pencil = z[:, None, None] * eye(sys.nstates, like=A) - A
    try:
        X = sys.xp.linalg.solve(pencil, sys.xp.broadcast_to(B, (*pencil.shape[:-1], sys.ninputs)))
    except (ValueError, RuntimeError) as error:  # what numpy's and torch's LinAlgError are
        if "singular" not in str(error).lower():
            raise
        raise ValueError("the transfer function has no value at an eigenvalue of A, and a given point is one; move or drop it") from error
    return matmul(C, X)


def residues(sys: DiagonalSSM | RealDiagonalSSM) -> Inexact[Array, "*batch n pm"]:
    """W[i] = C[:, i] B[i, :], flattened, so that G(z) = sum_i W[i] / (z - lambda_i) is one matrix product."""
    xp = sys.xp
    C = xp.matrix_transpose(sys.C)[..., :, :, None]
    B = sys.B[..., :, None, :]
    return xp.reshape(C * B, (*sys.batch_shape, sys.nstates, sys.noutputs * sys.ninputs))
