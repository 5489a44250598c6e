r"""From one of each conjugate pair of modes to the whole real system.

A mode (lambda, b, c) of y = Re(c x) is the pair (lambda, b, c/2) and its conjugate, or, in the real
coordinates (Re x, Im x), the block

    A = [[Re lambda, -Im lambda], [Im lambda, Re lambda]],  B = [Re b; Im b],  C = [Re c, -Im c].

A mode with real lambda needs one state only, when the real part of its residue c b has rank one.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from ssm_analysis.systems.dense import StateSpace
from ssm_analysis.systems.diagonal import DiagonalSSM
from ssm_analysis.xp import Array, array_namespace, conj, device, diag, imag, is_complex, real, to_complex, to_numpy

if TYPE_CHECKING:
    from ssm_analysis.systems.real_diagonal import RealDiagonalSSM


def conjugate_form(sys: "RealDiagonalSSM") -> DiagonalSSM:
    """Both modes of each pair, next to each other; real modes single."""
    if not _has_complex_modes(sys):
        return DiagonalSSM(log_poles=sys.log_poles, B=sys.B, C=sys.C, D=sys.D, dt=sys.dt)
    xp, single = sys.xp, _single_modes(sys)
    B, C = _rotated(sys, single)
    mu = to_complex(sys.log_poles)
    C = xp.where(_mask(single, like=C), C, C / 2)
    mu, B, C = (_both(x, conj(x), single, axis=axis) for x, axis in ((mu, -1), (B, -2), (C, -1)))
    return DiagonalSSM(log_poles=mu, B=B, C=C, D=sys.D, dt=sys.dt)


def block_form(sys: "RealDiagonalSSM") -> StateSpace:
    """Real matrices: a 2 x 2 block for each pair, one entry for each real mode."""
    if not _has_complex_modes(sys):
        return StateSpace(A=diag(sys.poles()), B=sys.B, C=sys.C, D=sys.D, dt=sys.dt)
    single = _single_modes(sys)
    B, C = _rotated(sys, single)
    lam = to_complex(sys.poles())
    re, im = diag(real(lam)), diag(imag(lam))
    A = _both(_both(re, -im, single, axis=-1), _both(im, re, single, axis=-1), single, axis=-2)
    B, C = _both(real(B), imag(B), single, axis=-2), _both(real(C), -imag(C), single, axis=-1)
    return StateSpace(A=A, B=B, C=C, D=sys.D, dt=sys.dt)


def real_coordinates(sys: "RealDiagonalSSM", x: Array) -> Array:
    """T x for the T with ``sys.to_dense().A = T Lambda T^{-1}``, Lambda of ``sys.expand()``: (Re, Im) in the place of two conjugates."""
    if not _has_complex_modes(sys):
        return x
    xp, single, k = sys.xp, _single_modes(sys), 0
    first, second = [], []
    for alone in single:
        first.append(k)
        second.append(k if alone else k + 1)
        k = second[-1] + 1
    upper, lower = (xp.take(to_complex(x), xp.asarray(rows, device=device(x)), axis=-2) for rows in (first, second))
    return _both((upper + lower) / 2, (upper - lower) / 2j, single, axis=-2)


def states_per_mode(sys: "RealDiagonalSSM") -> np.ndarray:
    """(n,) 2 for a pair, 1 for a mode that is real in every system of the batch: how many states of ``expand()`` it becomes."""
    return np.where(_single_modes(sys), 1, 2) if _has_complex_modes(sys) else np.ones(sys.nstates, dtype=np.int64)


def _has_complex_modes(sys: "RealDiagonalSSM") -> bool:
    return any(is_complex(x) for x in (sys.log_poles, sys.B, sys.C))


def _single_modes(sys: "RealDiagonalSSM") -> np.ndarray:
    """(n,) which modes are real in every system of the batch, with a residue whose real part has rank one."""
    angle, B, C = (np.reshape(to_numpy(imag(x)), (-1, *x.shape[x.ndim - k :])) for x, k in ((sys.log_poles, 1), (sys.B, 2), (sys.C, 2)))
    on_real_axis = np.all((angle == 0) | (np.abs(angle) == math.pi), axis=0)
    if 1 in (sys.ninputs, sys.noutputs):
        return on_real_axis
    return on_real_axis & np.all(np.all(B == 0, axis=2) | np.all(C == 0, axis=1), axis=0)


def _rotated(sys: "RealDiagonalSSM", single: np.ndarray) -> tuple[Array, Array]:
    """B and C with the phase of the single modes moved to one side and its real part taken."""
    xp = sys.xp
    if sys.ninputs == 1:
        size, phase = _polar(sys.B)
        B, C = size, real(sys.C * xp.matrix_transpose(phase))
    elif sys.noutputs == 1:
        size, phase = _polar(sys.C)
        B, C = real(sys.B * xp.matrix_transpose(phase)), size
    else:
        B, C = real(sys.B), real(sys.C)
    mask = _mask(single, like=sys.B)
    # both sides complex: torch's where has no gradient from a complex result to a real argument
    return xp.where(mask[:, None], to_complex(B), to_complex(sys.B)), xp.where(mask, to_complex(C), to_complex(sys.C))


def _polar(x: Array) -> tuple[Array, Array]:
    """|x| and x / |x|; at 0 the phase is 1 and the size Re x, which has a gradient."""
    xp = array_namespace(x)
    zero = x == 0
    safe = xp.where(zero, xp.ones_like(x), x)
    size = xp.abs(safe)
    return xp.where(zero, real(x), size), safe / size


def _mask(single: np.ndarray, *, like: Array) -> Array:
    return array_namespace(like).asarray(single.tolist(), device=device(like))


def _both(first: Array, second: Array, single: np.ndarray, *, axis: int) -> Array:
    """Entries of ``first`` and ``second`` in turn along ``axis``; of single modes only those of ``first``."""
    xp, n = array_namespace(first), len(single)
    order = [k for i in range(n) for k in ((i,) if single[i] else (i, n + i))]
    return xp.take(xp.concat([first, second], axis=axis), xp.asarray(order, device=device(first)), axis=axis)
