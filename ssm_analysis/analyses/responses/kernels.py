"""Convolution kernels D, C B, C A B, C A^2 B, ... in the precision of the system."""

import math
from functools import singledispatch

from jaxtyping import Inexact

from ssm_analysis.analyses.responses.frequency import residues
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.xp import Array, arange, array_namespace, imag, is_complex, matmul, real


def kernel(sys: LTI, length: int) -> Inexact[Array, "*batch l p m"]:
    """Return the first ``length`` Markov parameters. Powers come in two levels, A^(b q + r) = A^(b q) A^r, joined by one product."""
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    xp = sys.xp
    block = 2 ** math.ceil(math.log2(math.sqrt(length)))
    K = _powers(sys, block, -(-length // block))[..., : length - 1]  # (*batch, pm, l - 1)
    K = xp.matrix_transpose(K)
    K = xp.reshape(K, (*K.shape[:-1], sys.noutputs, sys.ninputs))
    return xp.concat([sys.D[..., None, :, :], K], axis=-3)


@singledispatch
def _powers(sys: object, block: int, count: int) -> Inexact[Array, "*batch pm l"]:
    """Return C A^k B for k < block * count, flattened over outputs and inputs."""
    raise TypeError(f"no kernel for {type(sys).__name__}")


@_powers.register
def _diagonal(sys: DiagonalSSM, block: int, count: int) -> Array:
    left, fine = _diagonal_factors(sys, block, count)
    return _joined(matmul(left, fine), count * block)


@_powers.register
def _real_diagonal(sys: RealDiagonalSSM, block: int, count: int) -> Array:
    left, fine = _diagonal_factors(sys, block, count)
    if is_complex(left) or is_complex(fine):  # Re(X Y) as one real product of twice the inner size
        left = sys.xp.concat([real(left), -imag(left)], axis=-1)
        fine = sys.xp.concat([real(fine), imag(fine)], axis=-2)
    return _joined(matmul(left, fine), count * block)


def _diagonal_factors(sys: DiagonalSSM | RealDiagonalSSM, block: int, count: int) -> tuple[Array, Array]:
    """Return C lambda^(b q) B, (*batch, pm, q, n), and lambda^r, (*batch, 1, n, b)."""
    xp, mu = sys.xp, sys.log_poles
    fine = xp.exp(mu[..., :, None] * arange(0, block, like=mu))[..., None, :, :]
    coarse = xp.exp(mu[..., None, :] * (block * arange(0, count, like=mu))[:, None])[..., None, :, :]
    W = xp.matrix_transpose(residues(sys))[..., None, :]
    return W * coarse, fine


@_powers.register
def _dense(sys: StateSpace, block: int, count: int) -> Array:
    xp = sys.xp
    right, power = krylov(sys.A, sys.B, block)  # (*batch, n, b m), A^b
    left, _ = krylov(xp.matrix_transpose(power), xp.matrix_transpose(sys.C), count)  # (*batch, n, q p)
    K = matmul(xp.matrix_transpose(left), right)
    batch = K.shape[:-2]
    K = xp.reshape(K, (*batch, count, sys.noutputs, block, sys.ninputs))
    K = xp.moveaxis(K, (-3, -1, -4, -2), (-4, -3, -2, -1))  # p m q b
    return xp.reshape(K, (*batch, sys.noutputs * sys.ninputs, count * block))


def krylov(A: Array, B: Array, count: int) -> tuple[Array, Array]:
    """Return [B, A B, ..., A^(count-1) B] by doubling, and A^count where count is a power of two."""
    xp, columns = array_namespace(A, B), B.shape[-1]
    have = 1
    while have < count:
        B = xp.concat([B, matmul(A, B)], axis=-1)
        A = matmul(A, A)
        have *= 2
    return B[..., : count * columns], A


def _joined(K: Array, length: int) -> Array:
    return array_namespace(K).reshape(K, (*K.shape[:-2], length))
