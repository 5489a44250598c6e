"""The transfer function C (z - A)^{-1} B + D at many points of many systems, in blocks that stay in the cache."""

import math

from jaxtyping import Complex, Inexact

from ssm_analysis.systems.base import System, check_library, in_double
from ssm_analysis.xp import Array, array_namespace, device, eye, is_array, matmul, to_complex

BLOCK = 2**16
"""Resolvent entries formed at a time, one megabyte. With more the system maps and clears new pages each time (measured: 2 to 5
times slower), with less the loop costs more than the arithmetic."""


def transfer_at(sys: System, z: complex | Inexact[Array, "..."]) -> Complex[Array, "... p m"]:
    """Return G(z), shape (*batch, *z.shape, p, m), in 64 bits."""
    number = isinstance(z, int | float | complex)
    if not (number or is_array(z)):
        raise TypeError(f"z must be a number or an array of the library of the system, got {type(z).__name__}")
    xp = sys.xp
    points: Array = xp.asarray(z, dtype=xp.complex128, device=device(sys.B)) if number else z
    check_library(sys, "z", points)
    G = evaluate(in_double(sys), xp.reshape(xp.astype(points, xp.complex128), (-1,)))
    return xp.reshape(G, (*sys.batch_shape, *points.shape, sys.noutputs, sys.ninputs))


def evaluate(sys: System, z: Complex[Array, " f"]) -> Complex[Array, "*batch f p m"]:
    """Return C (z - A)^{-1} B + D of a time-invariant system in 64 bits."""
    return sys.strictly_proper(z) + sys.D[..., None, :, :]  # type: ignore[attr-defined]


def residues(sys: System) -> Inexact[Array, "*batch n pm"]:
    """Return W[i] = C[:, i] B[i, :] of a diagonal system, flattened: G(z) = sum_i W[i] / (z - lambda_i) is one matrix product."""
    xp = sys.xp
    W = xp.matrix_transpose(sys.C)[..., :, :, None] * sys.B[..., :, None, :]
    return xp.reshape(W, (*sys.batch_shape, sys.nstates, sys.noutputs * sys.ninputs))


def partial_fractions(
    poles: Inexact[Array, "*batch n"], W: Inexact[Array, "*batch n pm"], z: Complex[Array, " f"], *, conjugates: bool = False
) -> Complex[Array, "*batch f pm"]:
    """Return sum_i W[i] / (z - lambda_i); infinite at a pole, unless the residues there are 0 or cancel.

    With ``conjugates`` the terms conj(W[i]) / (z - conj(lambda_i)) are added.
    """
    xp, poles, W = array_namespace(poles), to_complex(poles), to_complex(W)
    part = _pairs if conjugates else _fractions
    if _may_meet(poles, z):
        part = _with_poles
        if conjugates:
            poles, W = xp.concat([poles, xp.conj(poles)], axis=-1), xp.concat([W, xp.conj(W)], axis=-2)
    batch, n = tuple(poles.shape[:-1]), poles.shape[-1]
    poles, W = xp.reshape(poles, (-1, n)), xp.reshape(W, (-1, n, W.shape[-1]))
    systems, points = max(1, BLOCK // max(1, n * z.shape[0])), max(1, BLOCK // n)
    rows = []
    for i in range(0, max(1, poles.shape[0]), systems):
        some = slice(i, min(i + systems, poles.shape[0]))
        columns = [part(poles[some, :], W[some, :, :], z[k : min(k + points, z.shape[0])]) for k in range(0, max(1, z.shape[0]), points)]
        rows.append(columns[0] if len(columns) == 1 else xp.concat(columns, axis=-2))
    return xp.reshape(xp.concat(rows), (*batch, z.shape[0], W.shape[-1]))


def dense_fractions(
    A: Inexact[Array, "*batch n n"], B: Inexact[Array, "*batch n m"], C: Inexact[Array, "*batch p n"], z: Complex[Array, " f"]
) -> Complex[Array, "*batch f p m"]:
    """Return C (z - A)^{-1} B by one solve for each point; a ValueError at an eigenvalue, which is known to rounding only."""
    xp = array_namespace(A)
    step = max(1, BLOCK // max(1, A.shape[-1] ** 2 * math.prod(A.shape[:-2])))
    A, B, C = (to_complex(x)[..., None, :, :] for x in (A, B, C))
    blocks = [_solved(A, B, C, z[i : min(i + step, z.shape[0])]) for i in range(0, max(1, z.shape[0]), step)]
    return blocks[0] if len(blocks) == 1 else xp.concat(blocks, axis=-3)


def _fractions(poles: Array, W: Array, z: Array) -> Array:
    return matmul(1 / (z[:, None] - poles[:, None, :]), W)


def _pairs(poles: Array, W: Array, z: Array) -> Array:
    """Return one division for both of a pair: 1/p = q/(p q) and 1/q = p/(p q) with p = z - lambda, q = z - conj(lambda)."""
    conj = array_namespace(poles).conj
    p, q = z[:, None] - poles[:, None, :], z[:, None] - conj(poles)[:, None, :]
    r = 1 / (p * q)
    return matmul(q * r, W) + matmul(p * r, conj(W))


def _with_poles(poles: Array, W: Array, z: Array) -> Array:
    xp = array_namespace(poles)
    gap = z[:, None] - poles[:, None, :]
    at_pole = gap == 0
    regular = matmul(xp.where(at_pole, xp.zeros_like(gap), 1 / xp.where(at_pole, xp.ones_like(gap), gap)), W)
    singular = matmul(xp.astype(at_pole, gap.dtype), W)
    return xp.where(singular == 0, regular, xp.full_like(regular, math.inf))


def _may_meet(poles: Array, z: Array) -> bool:
    """Return whether a pole could equal a point: one of them has the modulus of some point, up to rounding."""
    xp = array_namespace(poles)
    if 0 in (*poles.shape, *z.shape):
        return False
    size, radius = xp.abs(poles), xp.abs(z)
    rounding = 4 * float(xp.finfo(xp.float64).eps)
    return bool(xp.any((size >= xp.min(radius) * (1 - rounding)) & (size <= xp.max(radius) * (1 + rounding))))


def _solved(A: Array, B: Array, C: Array, z: Array) -> Array:
    xp = array_namespace(A)
    pencil = z[:, None, None] * eye(A.shape[-1], like=A) - A
    try:
        X = xp.linalg.solve(pencil, xp.broadcast_to(B, (*pencil.shape[:-1], B.shape[-1])))
    except (ValueError, RuntimeError) as error:  # what numpy's and torch's LinAlgError are
        if "singular" not in str(error).lower():
            raise
        raise ValueError("the transfer function has no value at an eigenvalue of A, and a given point is one; move or drop it") from error
    return matmul(C, X)
