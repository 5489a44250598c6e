"""Recognize a complex diagonal system whose kernel is real: its modes come in conjugate pairs."""

import numpy as np

from ssm_analysis.systems.base import in_double
from ssm_analysis.systems.diagonal import DiagonalSSM
from ssm_analysis.systems.real_diagonal import RealDiagonalSSM
from ssm_analysis.xp import real, to_numpy

ROUNDINGS = 64
"""Two conjugates that were computed apart differ by a few roundings; of residues, relative to the largest."""


def one_of_each_pair(sys: DiagonalSSM) -> RealDiagonalSSM:
    """The single system ``sys`` as Re(C x) of one mode of each pair, in 64 bits.

    Raises
    ------
    ValueError
        If a mode has no conjugate partner or D is complex: then no real system is equivalent.
    """
    tolerance = ROUNDINGS * max(float(sys.xp.finfo(real(getattr(sys, name)).dtype).eps) for name in sys.AXES)
    mu, B, C, D = (to_numpy(getattr(in_double(sys), name)) for name in sys.AXES)
    if np.any(np.imag(D) != 0):
        raise ValueError(_refusal("D is complex"))
    lam = np.exp(mu)
    W = np.matrix_transpose(C)[:, :, None] * B[:, None, :]  # residue of mode i: C[:, i] B[i, :]
    partner = np.full(len(lam), -1)
    for i in range(len(lam)):
        if partner[i] < 0:
            j = _partner(i, partner < 0, lam, W, tolerance)
            partner[i], partner[j] = j, i
    kept = np.flatnonzero(partner >= np.arange(len(lam)))
    single = partner[kept] == kept
    is_real = single & (np.abs(np.imag(lam[kept])) <= tolerance * np.maximum(1, np.abs(lam[kept])))
    angle = np.where(is_real, np.where(np.real(lam[kept]) < 0, np.pi, 0.0), np.imag(mu)[kept])
    B, C = _with_real_modes(B[kept], C[:, kept] * np.where(single, 1.0, 2.0), is_real)
    return RealDiagonalSSM(log_poles=np.real(mu)[kept] + 1j * angle, B=B, C=C, D=np.real(D), dt=sys.dt)


def _partner(i: int, free: np.ndarray, lam: np.ndarray, W: np.ndarray, tolerance: float) -> int:
    """The free mode with the conjugate pole and residue of mode i: i itself where both are real, or the residue is 0."""
    near = np.flatnonzero(free & (np.abs(lam - np.conj(lam[i])) <= tolerance * max(1.0, abs(lam[i]))))
    misfit = np.max(np.abs(W[near] - np.conj(W[i])), axis=(1, 2), initial=0.0) / max(np.max(np.abs(W)), np.finfo(float).tiny)
    if near.size and np.min(misfit) <= tolerance:
        return int(near[np.argmin(np.maximum(misfit, np.abs(lam[near] - np.conj(lam[i]))))])
    if np.all(W[i] == 0):
        return i
    raise ValueError(_refusal(f"the pole {lam[i]:.6g} has no conjugate partner with the conjugate residue"))


def _with_real_modes(B: np.ndarray, C: np.ndarray, is_real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The phase of the largest entry of each real mode's row of B moved into C, which makes both real."""
    largest = np.take_along_axis(B, np.argmax(np.abs(B), axis=1)[:, None], axis=1)[:, 0]
    phase = np.where(largest == 0, 1.0, largest / np.where(largest == 0, 1.0, np.abs(largest)))
    return (
        np.where(is_real[:, None], np.real(B * np.conj(phase)[:, None]), B),
        np.where(is_real, np.real(C * phase), C),
    )


def _refusal(reason: str) -> str:
    return (
        f"this system has no equivalent with real matrices ({reason}), and python-control would silently drop its imaginary "
        "parts; if only the real part of its output is used, say so: RealDiagonalSSM(...).to_control()"
    )
