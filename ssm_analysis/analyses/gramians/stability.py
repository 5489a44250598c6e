"""Which systems of a batch are stable, and what an analysis does with the others.

A Gramian or a norm is computed for the whole batch at once, so an unstable member is replaced by a stable stand-in first and its
answer is overwritten afterwards: infinity for a norm, an error for a Gramian, which does not exist.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Inexact

from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import Array, array_namespace, real, stop_gradient, to_numpy

T = TypeVar("T", bound=LTI)
KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace)
LARGE = 1e100
"""Powers of A beyond this size count as unbounded; its square is still a finite double."""
NEGLIGIBLE = 2.0**-27
"""Size of A^k below which ||A^k||^2 is less than eps / 4."""
DOUBLINGS = 64
"""A^(2^64): even |lambda| = 1 - 2^-53, the largest double below 1, has decayed by e^-2048."""


def unstable(sys: LTI) -> Bool[Array, "*batch"]:
    """Return which systems have some |lambda| >= 1: by the sign of Re(log lambda); for a full A, whether its powers stay away from 0."""
    return unbounded(sys.A) if isinstance(sys, StateSpace) else sys.xp.any(real(stop_gradient(sys.log_poles)) >= 0, axis=-1)


def made_stable(sys: T) -> tuple[T, Bool[Array, "*batch"]]:
    """Return the batch with a stable stand-in for every unstable system, and which systems were replaced."""
    xp, mask = sys.xp, unstable(sys)
    if isinstance(sys, StateSpace):
        return replace(sys, A=xp.where(mask[..., None, None], xp.zeros_like(sys.A), sys.A)), mask
    return replace(sys, log_poles=xp.where(mask[..., None], -xp.ones_like(sys.log_poles), sys.log_poles)), mask


def infinite_where(mask: Bool[Array, "*batch"], x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Return infinity where ``mask`` is true and ``x`` elsewhere: the norms of a batch of which some systems are unstable."""
    xp = array_namespace(x)
    return xp.where(mask, xp.full_like(x, math.inf), x)


def all_stable(sys: LTI, caller: str) -> DiagonalSSM | StateSpace:
    """Return the system in 64 bits with all its states, after checking that every system of the batch is stable.

    Raises
    ------
    ValueError
        If a system is not stable: its Gramian does not exist.
    """
    check_system(sys, KINDS, caller)
    sys = in_double(sys)
    check_none(unstable(sys), caller)
    return sys.expand() if isinstance(sys, RealDiagonalSSM) else sys


def check_none(mask: Bool[Array, "*batch"], caller: str) -> None:
    """Raise the error of a Gramian that does not exist if ``mask``, which systems are unstable, is true anywhere."""
    mask = to_numpy(mask)
    if not mask.any():
        return
    entries = [tuple(int(i) for i in index) if len(index) > 1 else int(index[0]) for index in np.argwhere(mask)] if mask.ndim else []
    more = f" and {len(entries) - 5} more" if len(entries) > 5 else ""
    which = f"batch entries {', '.join(map(str, entries[:5]))}{more} are not" if entries else "this one is not"
    raise ValueError(
        f"{caller} needs stable systems, all |lambda| < 1, and {which}: the sum over A^k that defines the Gramian diverges there, "
        "so it does not exist; select the stable systems first (the norms of the others are infinite)"
    )


def unbounded(A: Inexact[Array, "*batch n n"]) -> Bool[Array, "*batch"]:
    """Return where A^(2^k) does not decay: exact up to the rounding of the products, which a non-normal A can amplify."""
    xp, n = array_namespace(A), A.shape[-1]
    A = stop_gradient(A)
    mask = xp.zeros_like(real(A)[..., 0, 0]) > 0
    for _ in range(DOUBLINGS):
        size = xp.max(xp.abs(A), axis=(-2, -1))
        mask = mask | ~(size <= LARGE)
        A = xp.where((mask | (n * size <= NEGLIGIBLE))[..., None, None], xp.zeros_like(A), A)
        if not bool(xp.any(A != 0)):
            return mask
        A = xp.matmul(A, A)
    return mask | (xp.max(xp.abs(A), axis=(-2, -1)) > NEGLIGIBLE)


def squares(A: Inexact[Array, "*batch n n"]) -> Iterator[Inexact[Array, "*batch n n"]]:
    """Yield A, A^2, A^4, ... of stable A, until ||A^(2^k)||^2 is below the rounding of a sum that begins with 1."""
    xp = array_namespace(A)
    while bool(xp.any(xp.abs(stop_gradient(A)) * A.shape[-1] > NEGLIGIBLE)):
        yield A
        A = xp.matmul(A, A)
