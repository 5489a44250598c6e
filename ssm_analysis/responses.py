"""Transfer function, frequency response and Markov parameters of time-invariant systems."""

import math

from jaxtyping import Complex, Float, Inexact

from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import Array, array_namespace, complex_from, conj, device, eye, is_array, is_complex, matmul, to_complex

KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace)
BLOCK = 2**18
"""Resolvent entries formed at a time; they stay in the cache, and memory stays bounded."""


def transfer_function(sys: LTI, z: complex | Inexact[Array, "..."]) -> Complex[Array, "... p m"]:
    """G(z) = C (z - A)^{-1} B + D, shape (*batch, *z.shape, p, m).

    Same as ``sys(z)`` in python-control, for a batch and with the inputs and outputs last.
    """
    check_system(sys, KINDS, "transfer_function")
    xp = sys.xp
    points: Array = z if is_array(z) else xp.asarray(z, dtype=xp.complex128, device=device(sys.B))
    try:
        array_namespace(sys.B, points)
    except TypeError as error:
        raise TypeError(f"z must be a number or an array of the library of the system, got {type(z).__name__}") from error
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
    """
    check_system(sys, KINDS, "frequency_response")
    xp = sys.xp
    if not is_array(omega) or omega.ndim != 1 or is_complex(omega):
        raise ValueError(f"omega must be a real array of shape (f,), got {getattr(omega, 'shape', type(omega).__name__)}")
    omega = xp.astype(omega, xp.float64) * sys.dt
    return _evaluate(in_double(sys), complex_from(xp.cos(omega), xp.sin(omega)))


def _evaluate(sys: LTI, z: Complex[Array, " f"]) -> Complex[Array, "*batch f p m"]:
    if isinstance(sys, RealDiagonalSSM):
        D, sys = sys.D, DiagonalSSM(log_poles=sys.log_poles, B=sys.B, C=sys.C, D=0 * sys.D, dt=sys.dt)
        return (_evaluate(sys, z) + conj(_evaluate(sys, conj(z)))) / 2 + D[..., None, :, :]
    xp = sys.xp
    per_point = sys.nstates if isinstance(sys, DiagonalSSM) else sys.nstates**2
    step = max(1, BLOCK // (per_point * math.prod(sys.batch_shape)))
    blocks = [_resolve(sys, z[i : min(i + step, z.shape[0])]) for i in range(0, z.shape[0], step)]
    return xp.concat(blocks, axis=-3) + sys.D[..., None, :, :]


def _resolve(sys: DiagonalSSM | StateSpace, z: Array) -> Array:
    return _diagonal_block(sys, z) if isinstance(sys, DiagonalSSM) else _dense_block(sys, z)


def _diagonal_block(sys: DiagonalSSM, z: Array) -> Array:
    resolvent = 1 / (z[:, None] - sys.xp.exp(sys.log_poles)[..., None, :])
    G = matmul(resolvent, residues(sys))
    return sys.xp.reshape(G, (*G.shape[:-1], sys.noutputs, sys.ninputs))


def _dense_block(sys: StateSpace, z: Array) -> Array:
    A, B, C = (to_complex(x)[..., None, :, :] for x in (sys.A, sys.B, sys.C))
    pencil = z[:, None, None] * eye(sys.nstates, like=A) - A
    return matmul(C, sys.xp.linalg.solve(pencil, sys.xp.broadcast_to(B, (*pencil.shape[:-1], sys.ninputs))))


def residues(sys: DiagonalSSM | RealDiagonalSSM) -> Inexact[Array, "*batch n pm"]:
    """W[i] = C[:, i] B[i, :], flattened, so that G(z) = sum_i W[i] / (z - lambda_i) is one matrix product."""
    xp = sys.xp
    C = xp.matrix_transpose(sys.C)[..., :, :, None]
    B = sys.B[..., :, None, :]
    W = C * B if is_complex(C) == is_complex(B) else to_complex(C) * to_complex(B)
    return xp.reshape(W, (*W.shape[:-2], -1))
