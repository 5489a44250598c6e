"""What the Array API standard leaves out. The only file of the core that names an array library."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace as array_namespace
from array_api_compat import device as device
from array_api_compat import is_array_api_obj, is_numpy_array, is_torch_array

Array = Any
"""An array of any library that follows the standard: ``numpy.ndarray``, ``torch.Tensor``, ..."""

broadcast_shapes = np.broadcast_shapes


def is_array(x: object) -> bool:
    return is_array_api_obj(x)


def is_complex(x: Array) -> bool:
    return array_namespace(x).isdtype(x.dtype, "complex floating")


def is_floating(x: Array) -> bool:
    return array_namespace(x).isdtype(x.dtype, ("real floating", "complex floating"))


def real(x: Array) -> Array:
    return array_namespace(x).real(x) if is_complex(x) else x


def imag(x: Array) -> Array:
    xp = array_namespace(x)
    return xp.imag(x) if is_complex(x) else xp.zeros_like(x)


def conj(x: Array) -> Array:
    return array_namespace(x).conj(x) if is_complex(x) else x


def adjoint(x: Array) -> Array:
    return array_namespace(x).matrix_transpose(conj(x))


def abs2(x: Array) -> Array:
    """Return |x|^2, smooth at 0; the gradient of ``abs(x) ** 2`` passes through x / |x|."""
    xp = array_namespace(x)
    return xp.real(x) ** 2 + xp.imag(x) ** 2 if is_complex(x) else x * x


def to_complex(x: Array) -> Array:
    """Return the same numbers in the complex dtype of the same precision."""
    xp = array_namespace(x)
    if is_complex(x):
        return x
    return xp.astype(x, xp.complex128 if x.dtype == xp.float64 else xp.complex64)


def double(x: Array) -> Array:
    """Return exact lift to 64 bits; differentiable."""
    xp = array_namespace(x)
    return xp.astype(x, xp.complex128 if is_complex(x) else xp.float64, copy=False)


def arange(start: int, stop: int, *, like: Array) -> Array:
    """start, ..., stop - 1 as real numbers in the precision and on the device of ``like``."""
    xp = array_namespace(like)
    return xp.arange(start, stop, dtype=real(like).dtype, device=device(like))


def eye(n: int, *, like: Array) -> Array:
    """Return the n x n identity in the dtype and on the device of ``like``."""
    return array_namespace(like).eye(n, dtype=like.dtype, device=device(like))


def diag(x: Array) -> Array:
    """Return (*batch, n) -> (*batch, n, n), x on the diagonal."""
    return x[..., None] * eye(x.shape[-1], like=x)


def expm1(z: Array) -> Array:
    """Return e^z - 1 without cancellation, real or complex (torch has no complex one).

    With z = x + i y:  e^z - 1 = expm1(x) - 2 sin^2(y/2) e^x + i e^x sin(y).
    """
    xp = array_namespace(z)
    if not is_complex(z):
        return xp.expm1(z)
    x, y = xp.real(z), xp.imag(z)
    growth, s = xp.expm1(x), xp.sin(y / 2)
    return growth - 2 * s * s * (1 + growth) + 1j * ((1 + growth) * xp.sin(y))


def complex_from(re: Array, im: Array) -> Array:
    return re + 1j * im


def matmul(a: Array, b: Array) -> Array:
    """Return a @ b of any two floating-point dtypes (torch's own refuses mixtures, array-api-compat's does not)."""
    return array_namespace(a, b).matmul(a, b)


def stop_gradient(x: Array) -> Array:
    return x.detach() if is_torch_array(x) else x


def all_finite(x: Array) -> bool:
    xp = array_namespace(x)
    return bool(xp.all(xp.isfinite(stop_gradient(x))))


def to_numpy(x: Array) -> np.ndarray:
    """Return a numpy array with the same numbers, on the CPU, outside any gradient."""
    if is_torch_array(x):
        return x.detach().cpu().resolve_conj().numpy()
    return np.asarray(x) if is_numpy_array(x) else np.from_dlpack(x)


def freeze(x: Array) -> Array:
    """Return a read-only view where the library has such a thing (numpy); torch has none."""
    if is_numpy_array(x):
        x = x.view()
        x.flags.writeable = False
    return x
