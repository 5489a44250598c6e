r"""Angles at which a frequency response is sampled so that no peak is missed.

A grid that follows the poles, arg(lambda) +- {0, 1/2, 1, 2, 4} (1 - |lambda|), is joined to an even one. An even grid alone misses
sharp peaks: 1024 angles were up to 36 % low on fresh S4D layers. The response of a full A on a fine even grid costs one FFT, and
its eigenvalues say where that grid is too coarse.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from jaxtyping import Complex, Float, Inexact

from ssm_analysis.analyses.responses.gains import gain_estimate, response, survey
from ssm_analysis.analyses.responses.kernels import kernel
from ssm_analysis.systems import DiagonalSSM, StateSpace
from ssm_analysis.xp import Array, array_namespace, complex_from, device, eye, imag, is_complex, real, to_complex

EVEN = 256
"""Angles of the even grid around the circle."""
OFFSETS = (-4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0)
"""Where a resonance (1 + x^2)^(-1/2) and its skewed forms are sampled, in units of its half-width 1 - |lambda|."""
FINE = 2**14
"""Angles of the even grid of a full A, whose response there costs one FFT."""
ENTRIES = 2**24
"""Entries of that response for the whole batch at most; beyond, the grid is coarser (but not than ``EVEN``)."""
CHECKED = 6
"""Highest values of the FFT that are computed once more, directly."""
BLOCK = 2**15
"""Resolvent entries formed at a time: temporary arrays of a quarter megabyte stay in the cache and in the heap (with
more than a megabyte the system maps and clears their pages anew each time: measured 2 to 5 times slower)."""

Angles = Float[Array, "*batch k"]
"""Angles theta = omega dt in rad/step, or real numbers that belong to them."""
Sampled = TypeVar("Sampled", bound=DiagonalSSM | StateSpace)


def diagonal_grid(sys: DiagonalSSM, mu: Inexact[Array, "*batch n"], *, half: bool) -> tuple[Angles, Angles, Angles]:
    """Return sorted angles for diagonal systems, the gains of ``sys`` there and the slopes of these gains.

    The angles follow the log-poles ``mu``, which may be more or fewer than those of ``sys``. With ``half``, theta and -theta count
    as one.
    """
    xp, width = sys.xp, -real(mu)
    near = imag(mu)[..., None] + width[..., None] * xp.asarray(OFFSETS, dtype=width.dtype, device=device(width))
    near = folded(xp.reshape(near, (*near.shape[:-2], -1)), half=half)
    grid = xp.sort(xp.concat([near, _even(EVEN, half=half, like=width)], axis=-1), axis=-1)
    gains = in_blocks(survey, sys, grid)
    return grid, gains[..., 0, :], gains[..., 1, :]


def dense_grid(sys: StateSpace, *, half: bool) -> tuple[Angles, Angles]:
    """Return sorted angles for systems with a full A, and the gains there.

    A fine even grid, by FFT, is joined to angles where the eigenvalues say that it is too coarse. Eigenvalues only hint: a wrong
    one costs time. With ``half``, theta and -theta count as one.
    """
    xp, like = sys.xp, real(sys.B[..., 0])
    room = max(1, ENTRIES // (sys.ninputs * sys.noutputs * math.prod(sys.batch_shape)))
    length = max(EVEN, min(FINE, 2 ** (room.bit_length() - 1)))
    grid, height = _even(length, half=half, like=like), gain_estimate(_periodic_response(sys, length, half=half))
    if not _confirmed(sys, grid, height):
        grid = _even(EVEN, half=half, like=like)
        height = in_blocks(_estimate, sys, grid)
    hints = _sharp_angles(sys, 4 * math.pi / length, half=half)
    grid, height = xp.concat([grid, hints], axis=-1), xp.concat([height, in_blocks(_estimate, sys, hints)], axis=-1)
    order = xp.argsort(grid, axis=-1)
    return xp.take_along_axis(grid, order, axis=-1), xp.take_along_axis(height, order, axis=-1)


def folded(theta: Angles, *, half: bool) -> Angles:
    """Return the same angles in (-pi, pi], or, with ``half``, in [0, pi], where theta and -theta count as one."""
    xp = array_namespace(theta)
    theta = theta - 2 * math.pi * xp.ceil((theta - math.pi) / (2 * math.pi))  # exactly itself where nothing is to do
    return xp.abs(theta) if half else theta


def in_blocks(f: Callable[[Sampled, Angles], Array], sys: Sampled, theta: Angles) -> Array:
    """Return f(sys, theta), computed for a few systems, or for a few angles of one system, at a time; the batch is one axis."""
    count, total = theta.shape[-1], len(sys)
    per_angle = sys.nstates * (sys.nstates if isinstance(sys, StateSpace) else min(sys.ninputs, sys.noutputs))
    angles = max(1, min(count, BLOCK // per_angle))
    systems = max(1, BLOCK // (per_angle * angles))
    rows = []
    for i in range(0, total, systems):
        part, end = sys[i : min(i + systems, total)], min(i + systems, total)
        row = [f(part, theta[i:end, k : min(k + angles, count)]) for k in range(0, count, angles)]
        rows.append(sys.xp.concat(row, axis=-1))
    return sys.xp.concat(rows, axis=0)


def _estimate(sys: StateSpace, theta: Angles) -> Angles:
    """Return the gains at the angles ``theta``, computed directly."""
    return gain_estimate(response(sys, theta))


def _sharp_angles(sys: StateSpace, narrow: float, *, half: bool) -> Angles:
    """Return arg(lambda) and arg(lambda) +- (1 - |lambda|) for the eigenvalues with 1 - |lambda| below ``narrow``, at least one."""
    xp = sys.xp
    poles = to_complex(xp.linalg.eigvals(sys.A))
    width = xp.abs(1 - xp.abs(poles))
    count = max(1, int(xp.max(xp.sum(xp.astype(width < narrow, xp.int64), axis=-1))))
    first = xp.argsort(width, axis=-1)[..., :count]
    poles, width = xp.take_along_axis(poles, first, axis=-1), xp.take_along_axis(width, first, axis=-1)
    angle = xp.atan2(imag(poles), real(poles))
    angles = xp.concat([angle - width, angle, angle + width], axis=-1)
    conjugate = half & (xp.concat([angle] * 3, axis=-1) < 0)  # nearly equal angles would hide a maximum between them
    return folded(xp.where(conjugate, xp.zeros_like(angles), angles), half=half)


def _periodic_response(sys: StateSpace, length: int, *, half: bool) -> Complex[Array, "*batch k p m"]:
    """Return G where z^L = 1: D + conj(z) times the Fourier sum of C A^k (1 - A^L)^{-1} B over k < L."""
    xp, power = sys.xp, sys.A
    for _ in range(length.bit_length() - 1):
        power = xp.matmul(power, power)
    loop = eye(sys.nstates, like=power) - power
    if is_complex(sys.B) != is_complex(loop):
        loop = to_complex(loop)
    B = xp.linalg.solve(loop, sys.B + 0 * loop[..., :, :1])
    K = to_complex(kernel(replace(sys, B=B), length + 1)[..., 1:, :, :])
    G = xp.fft.fft(K, axis=-3)
    G = G[..., : length // 2 + 1, :, :] if half else xp.roll(G, length // 2, axis=-3)
    theta = _even(length, half=half, like=real(sys.B[..., 0]))[..., None, None]
    return complex_from(xp.cos(theta), -xp.sin(theta)) * G + sys.D[..., None, :, :]


def _confirmed(sys: StateSpace, theta: Angles, height: Angles) -> bool:
    """Return whether a direct computation confirms the highest gains: powers of a very non-normal A can cancel beyond 64 bits."""
    xp = sys.xp
    best = xp.argsort(height, axis=-1, descending=True)[..., :CHECKED]
    gains, angles = (xp.take_along_axis(x, best, axis=-1) for x in (height, theta))
    direct = in_blocks(_estimate, sys, angles)
    return bool(xp.all(xp.abs(gains - direct) <= 0.01 * direct))


def _even(count: int, *, half: bool, like: Float[Array, "*batch n"]) -> Angles:
    """Return [0, pi] in steps of 2 pi / count, or the circle from -pi on, once for each system of the batch ``like`` has."""
    xp = array_namespace(like)
    index = xp.arange(0 if half else -(count // 2), count // 2 + (1 if half else 0), dtype=like.dtype, device=device(like))
    return 2 * math.pi / count * index + xp.zeros_like(like[..., :1])
