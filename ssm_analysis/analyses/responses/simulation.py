"""Responses to an input from x[0] = 0, in the precision of the system: also the forward pass of a trainable layer."""

import itertools
import math
import operator
from collections.abc import Iterable, Iterator

from jaxtyping import Inexact

from ssm_analysis.analyses.responses.kernels import kernel
from ssm_analysis.systems import DiagonalLTV, DiagonalRecurrence, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import System, check_library, check_system
from ssm_analysis.xp import (
    Array,
    arange,
    array_namespace,
    broadcast_shapes,
    is_array,
    is_complex,
    is_floating,
    matmul,
    real,
    stop_gradient,
    to_complex,
)

KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace, DiagonalLTV, DiagonalRecurrence)
WIDE = 4096
"""With this many states a time step keeps the processor busy, and splitting time into chunks only adds work (measured)."""


def simulate(
    sys: DiagonalSSM | RealDiagonalSSM | StateSpace | DiagonalLTV | DiagonalRecurrence,
    u: Inexact[Array, "l *ubatch m"],
) -> Inexact[Array, "l *ybatch p"]:
    """Return y[k] = C x[k] + D u[k] from x[0] = 0.

    Same as ``control.forced_response``, for a batch, with time as axis 0. Time-invariant systems are convolved by
    FFT where that loses nothing, time-varying ones are scanned; gradients pass through both.

    Parameters
    ----------
    sys
        Any system.
    u
        Input; the axes between time and the m inputs broadcast against the batch shape of the system, so that
        ``(L, documents, channels, 1)`` drives a system of batch shape ``(channels,)`` once for each document.

    Raises
    ------
    TypeError
        If ``sys`` is not a system or ``u`` not an array of its library.
    ValueError
        If the shape of ``u`` does not fit, ``u`` is complex where the system takes real input, or ``u`` is longer
        or shorter than a time-varying system.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)
    >>> simulate(sys, np.ones((4, 1)))[:, 0].round(6)
    array([0.  , 1.  , 1.5 , 1.75])
    """
    check_system(sys, KINDS, "simulate")
    _check_input(sys, u)
    xp = sys.xp
    if isinstance(sys, DiagonalLTV | DiagonalRecurrence):
        return _varying_response(sys, u)
    u = xp.moveaxis(u, 0, -2)  # (*ubatch, l, m)
    y = _dense_response(sys, u) if isinstance(sys, StateSpace) else _diagonal_response(sys, u)
    return xp.moveaxis(y, -2, 0)


def _varying_response(sys: DiagonalLTV | DiagonalRecurrence, u: Array) -> Array:
    extra = (u.ndim - 2) - len(sys.batch_shape)
    log_poles, B, C, D = (_behind_time(getattr(sys, name), extra) for name in ("log_poles", "B", "C", "D"))
    u = _behind_time(u, -extra)
    h = linear_recurrence(sys.xp.exp(log_poles), _apply(B, u))
    return _apply(C, h if isinstance(sys, DiagonalRecurrence) else _delayed(h)) + _apply(D, u)


def _diagonal_response(sys: DiagonalSSM | RealDiagonalSSM, u: Array) -> Array:
    length = u.shape[-2]
    grows = real(stop_gradient(sys.log_poles)) * length > 1
    if bool(sys.xp.any(grows)):  # a growing kernel would drown the early outputs in the rounding of the late ones
        return _scanned(sys, u)
    if sys.ninputs == sys.noutputs == 1:
        return convolve(kernel(sys, length)[..., 0], u)
    # many channels: one convolution per state is cheaper than one per pair of channels
    xp, mu = sys.xp, sys.log_poles
    v = matmul(u, xp.matrix_transpose(sys.B))
    h = convolve(xp.exp(mu[..., None, :] * arange(0, length, like=mu)[:, None]), v)
    x = xp.concat([xp.zeros_like(h[..., :1, :]), h[..., : length - 1, :]], axis=-2)
    return _read_out(sys, x, u)


def _scanned(sys: DiagonalSSM | RealDiagonalSSM, u: Array) -> Array:
    xp = sys.xp
    v = xp.moveaxis(matmul(u, xp.matrix_transpose(sys.B)), -2, 0)
    h = linear_recurrence(xp.broadcast_to(xp.exp(sys.log_poles), (*v.shape[:-1], sys.nstates)), v)
    return _read_out(sys, xp.moveaxis(_delayed(h), 0, -2), u)


def _read_out(sys: DiagonalSSM | RealDiagonalSSM, x: Array, u: Array) -> Array:
    y = matmul(x, sys.xp.matrix_transpose(sys.C))
    y = real(y) if isinstance(sys, RealDiagonalSSM) else y
    return y + matmul(u, sys.xp.matrix_transpose(sys.D))


def _dense_response(sys: StateSpace, u: Array) -> Array:
    xp, length = sys.xp, u.shape[-2]
    if sys.ninputs == sys.noutputs == 1:
        K = kernel(sys, length)[..., 0]
        if not _grows(stop_gradient(K)):
            return convolve(K, u)
    A, D = xp.matrix_transpose(sys.A), xp.matrix_transpose(sys.D)
    v = matmul(u, xp.matrix_transpose(sys.B))
    x = xp.zeros_like(v[..., 0, :] + 0 * A[..., 0, :])[..., None, :]
    states = []
    for v_k in xp.unstack(v, axis=-2):
        states.append(x)
        x = matmul(x, A) + v_k[..., None, :]
    return matmul(xp.concat(states, axis=-2), xp.matrix_transpose(sys.C)) + matmul(u, D)


def _grows(K: Inexact[Array, "*k l c"]) -> bool:
    """Return whether an early output would lose more than two digits to the rounding of the largest, in any system of the batch."""
    xp = array_namespace(K)
    size = xp.abs(K)
    early = xp.max(size[..., : max(min(2, K.shape[-2]), K.shape[-2] // 8), :], axis=-2)
    peak = xp.max(size, axis=-2)
    return not bool(xp.all((peak <= 100 * early) & xp.isfinite(peak)))


def convolve(k: Inexact[Array, "*k l c"], u: Inexact[Array, "*u l c"]) -> Inexact[Array, "*ku l c"]:
    """Return causal convolution along axis -2, by FFT of twice the length."""
    xp, n = array_namespace(k, u), u.shape[-2]
    if is_complex(k) or is_complex(u):
        K, U = (xp.fft.fft(to_complex(x), n=2 * n, axis=-2) for x in (k, u))
        return xp.fft.ifft(K * U, axis=-2)[..., :n, :]
    K, U = (xp.fft.rfft(x, n=2 * n, axis=-2) for x in (k, u))
    return xp.fft.irfft(K * U, n=2 * n, axis=-2)[..., :n, :]


def linear_recurrence(a: Inexact[Array, "l *#states"], v: Inexact[Array, "l *#states"]) -> Inexact[Array, "l *#states"]:
    """Return x[k] = a[k] x[k-1] + v[k] along axis 0: step by step, or for few states in about sqrt(l) chunks at once."""
    xp, length = array_namespace(a, v), v.shape[0]
    a, v = xp.broadcast_arrays(a, v)
    if math.prod(v.shape[1:]) >= WIDE or length < 4:
        return xp.stack(list(_steps(xp.unstack(a), xp.unstack(v))))
    size = math.isqrt(length - 1) + 1
    a, v = _chunks(a, size), _chunks(v, size)  # (size, count, ...): all chunks step together
    within = xp.stack(list(_steps(xp.unstack(a), xp.unstack(v))))
    decay = xp.stack(list(itertools.accumulate(xp.unstack(a), operator.mul)))
    ends = list(_steps(xp.unstack(decay[-1, ...]), xp.unstack(within[-1, ...])))
    carry = xp.stack([xp.zeros_like(ends[0]), *ends[:-1]])
    x = xp.moveaxis(within + decay * carry, 1, 0)
    return xp.reshape(x, (x.shape[0] * size, *x.shape[2:]))[:length, ...]


def _steps(a: Iterable[Array], v: Iterable[Array]) -> Iterator[Array]:
    x = None
    for a_k, v_k in zip(a, v, strict=True):
        x = v_k if x is None else a_k * x + v_k
        yield x


def _chunks(x: Array, size: int) -> Array:
    """Return (l, ...) -> (size, count, ...), zeros at the end; the states they give are cut off again."""
    xp, missing = array_namespace(x), -x.shape[0] % size
    if missing:
        x = xp.concat([x, xp.zeros_like(x[:missing, ...])])
    return xp.moveaxis(xp.reshape(x, (x.shape[0] // size, size, *x.shape[1:])), 0, 1)


def _apply(M: Array, x: Array) -> Array:
    """Return M[k] x[k] for every time k; a column or a row is applied without a matrix product."""
    xp = array_namespace(M, x)
    if M.shape[-1] == 1:
        return M[..., 0] * x
    if M.shape[-2] == 1:
        return xp.sum(M[..., 0, :] * x, axis=-1, keepdims=True)
    return matmul(M, x[..., None])[..., 0]


def _behind_time(x: Array, count: int) -> Array:
    """Return ``x`` with ``count`` length-1 axes behind time, so that batch axes broadcast and time does not."""
    return x if count <= 0 else array_namespace(x).reshape(x, (x.shape[0], *(1,) * count, *x.shape[1:]))


def _delayed(x: Array) -> Array:
    xp = array_namespace(x)
    return xp.concat([xp.zeros_like(x[:1, ...]), x[:-1, ...]], axis=0)


def _check_input(sys: System, u: Array) -> None:
    want = f"(L, *batch, {sys.ninputs}) with batch axes that broadcast against {sys.batch_shape}"
    if not is_array(u):
        raise TypeError(f"u must be an array of shape {want}, got {type(u).__name__}")
    check_library(sys, "u", u)
    if not is_floating(u):
        raise TypeError(f"u must hold real or complex floating-point numbers, got {u.dtype}")
    if u.ndim < 2 or u.shape[-1] != sys.ninputs or u.shape[0] == 0:
        hint = "; single-input systems take u[..., None]" if sys.ninputs == 1 else ""
        raise ValueError(f"u must have shape {want}, got {tuple(u.shape)}{hint}")
    try:
        broadcast_shapes(tuple(u.shape[1:-1]), sys.batch_shape)
    except ValueError as error:
        raise ValueError(f"u must have shape {want}, got {tuple(u.shape)}") from error
    if isinstance(sys, RealDiagonalSSM) and is_complex(u):
        raise ValueError(f"u must be real for a RealDiagonalSSM, got {u.dtype}; sys.expand() takes complex input")
    if sys.TIME_AXES and u.shape[0] != sys.B.shape[0]:
        raise ValueError(f"u must be as long as the time-varying system, {sys.B.shape[0]} steps, got {u.shape[0]}")
