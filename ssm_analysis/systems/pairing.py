"""Recognise a complex diagonal system whose kernel is real: its modes come in conjugate pairs."""

import numpy as np

from ssm_analysis.systems.diagonal import DiagonalSSM
from ssm_analysis.systems.real_diagonal import RealDiagonalSSM
from ssm_analysis.xp import to_numpy

ROUNDING = 64 * np.finfo(np.float64).eps
"""Two conjugates that were computed apart differ by a few roundings, relative to the largest residue."""


def one_of_each_pair(sys: DiagonalSSM) -> RealDiagonalSSM:
    """The single system ``sys`` as Re(C x) of one mode of each pair.

    Raises
    ------
    ValueError
        If a mode has no conjugate partner or D is complex: then no real system is equivalent.
    """
    mu, B, C, D = (to_numpy(getattr(sys, name)) for name in sys.AXES)
    lam = np.exp(mu)
    W = np.matrix_transpose(C)[:, :, None] * B[:, None, :]  # residue of mode i: C[:, i] B[i, :]
    scale = max(float(np.max(np.abs(W))), np.finfo(np.float64).tiny)
    if np.any(np.abs(np.imag(D)) > 0):
        raise ValueError(_refusal("D is complex"))
    kept, factor = [], []
    free = list(range(len(lam)))
    while free:
        i = free.pop(0)
        distance = {j: max(abs(lam[i] - np.conj(lam[j])), np.max(np.abs(W[i] - np.conj(W[j]))) / scale) for j in (i, *free)}
        partner = min(distance, key=distance.__getitem__)
        if distance[partner] > ROUNDING:
            raise ValueError(_refusal(f"the pole {lam[i]:.6g} has no conjugate partner with the conjugate residue"))
        kept.append(i)
        factor.append(1.0 if partner == i else 2.0)
        if partner != i:
            free.remove(partner)
    angle = np.where(np.array(factor) == 1, np.where(np.real(lam[kept]) < 0, np.pi, 0.0), np.imag(mu)[kept])
    return RealDiagonalSSM(log_poles=np.real(mu)[kept] + 1j * angle, B=B[kept], C=C[:, kept] * np.array(factor), D=np.real(D), dt=sys.dt)


def _refusal(reason: str) -> str:
    return (
        f"this system has no equivalent with real matrices ({reason}), and python-control would silently drop its imaginary "
        "parts; if only the real part of its output is used, say so: RealDiagonalSSM(...).to_control()"
    )
