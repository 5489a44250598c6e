r"""Between one of each conjugate pair of modes and the whole real system, as arrays: log_poles (..., n), B (..., n, m), C (..., p, n).

A mode (lambda, b, c) of y = Re(c x) is the pair (lambda, b, c/2) and its conjugate, or, in the real
coordinates (Re x, Im x), the block

    A = [[Re lambda, -Im lambda], [Im lambda, Re lambda]],  B = [Re b; Im b],  C = [Re c, -Im c].

A mode with real lambda needs one state only, when the real part of its residue c b has rank one.
"""

import math
from typing import NamedTuple

import numpy as np

from ssm_analysis.xp import Array, array_namespace, conj, device, diag, imag, is_complex, real, to_complex, to_numpy

ROUNDINGS = 64
"""Two conjugates that were computed apart differ by a few roundings; of residues, relative to the largest."""


class Modes(NamedTuple):
    """The modes of a diagonal system."""

    log_poles: Array
    B: Array
    C: Array


def both_of_each_pair(modes: Modes) -> Modes:
    """Return both modes of each pair, next to each other; real modes stay single."""
    if not _has_complex_modes(modes):
        return modes
    xp, single = array_namespace(modes.log_poles), _single_modes(modes)
    B, C = _rotated(modes, single)
    mu = to_complex(modes.log_poles)
    C = xp.where(_mask(single, like=C), C, C / 2)
    return Modes(*(_both(x, conj(x), single, axis=axis) for x, axis in ((mu, -1), (B, -2), (C, -1))))


def real_matrices(modes: Modes) -> tuple[Array, Array, Array]:
    """Return real A, B and C: a 2 x 2 block for each pair, one entry for each real mode."""
    poles = array_namespace(modes.log_poles).exp(modes.log_poles)
    if not _has_complex_modes(modes):
        return diag(poles), modes.B, modes.C
    single, lam = _single_modes(modes), to_complex(poles)
    B, C = _rotated(modes, single)
    re, im = diag(real(lam)), diag(imag(lam))
    A = _both(_both(re, -im, single, axis=-1), _both(im, re, single, axis=-1), single, axis=-2)
    return A, _both(real(B), imag(B), single, axis=-2), _both(real(C), -imag(C), single, axis=-1)


def real_coordinates(modes: Modes, x: Array) -> Array:
    """Return T x for the T that takes `both_of_each_pair` to `real_matrices`: (Re, Im) in the place of two conjugates."""
    if not _has_complex_modes(modes):
        return x
    xp, k = array_namespace(x), 0
    single = _single_modes(modes)
    first, second = [], []
    for alone in single:
        first.append(k)
        second.append(k if alone else k + 1)
        k = second[-1] + 1
    upper, lower = (xp.take(to_complex(x), xp.asarray(rows, device=device(x)), axis=-2) for rows in (first, second))
    return _both((upper + lower) / 2, (upper - lower) / 2j, single, axis=-2)


def states_per_mode(modes: Modes) -> np.ndarray:
    """Return for each mode, (n,), how many states it becomes: 2 for a pair, 1 if it is real in every system of the batch."""
    return np.where(_single_modes(modes), 1, 2) if _has_complex_modes(modes) else np.ones(modes.log_poles.shape[-1], dtype=np.int64)


def one_of_each_pair(modes: Modes, *, unit: float) -> Modes:
    """Return the modes of a single complex system as y = Re(C x) of one of each pair, in numpy and 64 bits.

    Parameters
    ----------
    modes
        Of one system whose kernel is real, in numpy.
    unit
        Relative rounding error of the numbers as they were stored.

    Raises
    ------
    ValueError
        If a mode has no conjugate partner: then no real system is equivalent.
    """
    tolerance = ROUNDINGS * unit
    mu, B, C = modes
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
    return Modes(np.real(mu)[kept] + 1j * angle, B, C)


def refusal(reason: str) -> str:
    """Return the message for a system without equivalent real matrices."""
    return (
        f"this system has no equivalent with real matrices ({reason}), and python-control would silently drop its imaginary "
        "parts; if only the real part of its output is used, say so: RealDiagonalSSM(...).to_control()"
    )


def _partner(i: int, free: np.ndarray, lam: np.ndarray, W: np.ndarray, tolerance: float) -> int:
    """Return the free mode with the conjugate pole and residue of mode i: i itself where both are real, or the residue is 0."""
    near = np.flatnonzero(free & (np.abs(lam - np.conj(lam[i])) <= tolerance * max(1.0, abs(lam[i]))))
    misfit = np.max(np.abs(W[near] - np.conj(W[i])), axis=(1, 2), initial=0.0) / max(np.max(np.abs(W)), np.finfo(float).tiny)
    if near.size and np.min(misfit) <= tolerance:
        return int(near[np.argmin(np.maximum(misfit, np.abs(lam[near] - np.conj(lam[i]))))])
    if np.all(W[i] == 0):
        return i
    raise ValueError(refusal(f"the pole {lam[i]:.6g} has no conjugate partner with the conjugate residue"))


def _with_real_modes(B: np.ndarray, C: np.ndarray, is_real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move the phase of the largest entry of each real mode's row of B into C, which makes both real."""
    largest = np.take_along_axis(B, np.argmax(np.abs(B), axis=1)[:, None], axis=1)[:, 0]
    phase = np.where(largest == 0, 1.0, largest / np.where(largest == 0, 1.0, np.abs(largest)))
    return (
        np.where(is_real[:, None], np.real(B * np.conj(phase)[:, None]), B),
        np.where(is_real, np.real(C * phase), C),
    )


def _has_complex_modes(modes: Modes) -> bool:
    return any(is_complex(x) for x in modes)


def _single_modes(modes: Modes) -> np.ndarray:
    """Return, (n,), which modes are real in every system of the batch, with a residue whose real part has rank one."""
    angle, B, C = (
        np.reshape(to_numpy(imag(x)), (-1, *x.shape[x.ndim - k :])) for x, k in ((modes.log_poles, 1), (modes.B, 2), (modes.C, 2))
    )
    on_real_axis = np.all((angle == 0) | (np.abs(angle) == math.pi), axis=0)
    if 1 in (modes.B.shape[-1], modes.C.shape[-2]):
        return on_real_axis
    return on_real_axis & np.all(np.all(B == 0, axis=2) | np.all(C == 0, axis=1), axis=0)


def _rotated(modes: Modes, single: np.ndarray) -> tuple[Array, Array]:
    """Return B and C with the phase of the single modes moved to one side and its real part taken."""
    xp = array_namespace(modes.log_poles)
    if modes.B.shape[-1] == 1:
        size, phase = _polar(modes.B)
        B, C = size, real(modes.C * xp.matrix_transpose(phase))
    elif modes.C.shape[-2] == 1:
        size, phase = _polar(modes.C)
        B, C = real(modes.B * xp.matrix_transpose(phase)), size
    else:
        B, C = real(modes.B), real(modes.C)
    mask = _mask(single, like=modes.B)
    # both sides complex: torch's where has no gradient from a complex result to a real argument
    return xp.where(mask[:, None], to_complex(B), to_complex(modes.B)), xp.where(mask, to_complex(C), to_complex(modes.C))


def _polar(x: Array) -> tuple[Array, Array]:
    """Return |x| and x / |x|; at 0 the phase is 1 and the size Re x, which has a gradient."""
    xp = array_namespace(x)
    zero = x == 0
    safe = xp.where(zero, xp.ones_like(x), x)
    size = xp.abs(safe)
    return xp.where(zero, real(x), size), safe / size


def _mask(single: np.ndarray, *, like: Array) -> Array:
    return array_namespace(like).asarray(single.tolist(), device=device(like))


def _both(first: Array, second: Array, single: np.ndarray, *, axis: int) -> Array:
    """Return entries of ``first`` and ``second`` in turn along ``axis``; of single modes only those of ``first``."""
    xp, n = array_namespace(first), len(single)
    order = [k for i in range(n) for k in ((i,) if single[i] else (i, n + i))]
    return xp.take(xp.concat([first, second], axis=axis), xp.asarray(order, device=device(first)), axis=axis)
