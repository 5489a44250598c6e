r"""From continuous time x' = a x + B u to one step of length delta: log-poles and input matrix.

Each rule returns ``(log_poles, B)`` of ``h[k] = exp(log_poles) h[k-1] + B u[k]``. With z = delta a:

==============  ========================  ==========================
rule            log(lambda)               B of the discrete system
==============  ========================  ==========================
zero_order_hold  z                        delta expm1(z)/z B
bilinear         2 artanh(z/2)            delta / (1 - z/2) B
euler_input      z                        delta B
==============  ========================  ==========================

The learned step ``delta`` has one entry per state, or one per channel with a length-1 axis in the place of the
states: ``delta[..., None]``.
"""

from jaxtyping import Float, Inexact

from ssm_analysis.systems.base import check_arrays
from ssm_analysis.xp import Array, array_namespace, broadcast_shapes, complex_from, expm1, imag, is_complex, real

LogPolesAndInput = tuple[Inexact[Array, "*#batch #n"], Inexact[Array, "*#batch #n m"]]


def zero_order_hold(
    a: Inexact[Array, "*#batch #n"], B: Inexact[Array, "*#batch #n m"], delta: Float[Array, "*#batch #n"]
) -> LogPolesAndInput:
    r"""Return lambda = e^{delta a},  B_d = (e^{delta a} - 1) / a B: exact for an input that is constant during a step.

    Same as ``scipy.signal.cont2discrete(..., method="zoh")`` for a diagonal system; at a = 0 the limit delta B.

    Raises
    ------
    TypeError
        If the arguments are not floating-point arrays of one library.
    ValueError
        If the shapes do not broadcast or ``delta`` is complex.

    References
    ----------
    Franklin, Powell, Workman, Digital Control of Dynamic Systems, 3rd ed., section 4.3.
    """
    _check(a, B, delta)
    z = a * delta
    return z, (delta * _phi(z))[..., None] * B


def bilinear(a: Inexact[Array, "*#batch #n"], B: Inexact[Array, "*#batch #n m"], delta: Float[Array, "*#batch #n"]) -> LogPolesAndInput:
    r"""Return lambda = (1 + delta a/2) / (1 - delta a/2),  B_d = delta / (1 - delta a/2) B: Tustin's rule as S4 uses it.

    The poles are those of ``scipy.signal.cont2discrete(..., method="bilinear")``. The left half plane becomes the
    unit disk; frequencies are warped, not aliased. A real a below -2/delta becomes a negative pole, whose log-pole
    has the imaginary part pi: then all log-poles come out complex.

    Raises
    ------
    TypeError
        If the arguments are not floating-point arrays of one library.
    ValueError
        If the shapes do not broadcast, ``delta`` is complex, or delta a is -2 or 2: the pole would be 0, which has no
        logarithm, or infinite.

    References
    ----------
    Tustin, J. IEE 94 (1947) 130-142; Gu, Goel, Re, arXiv 2111.00396, equation (3).
    """
    _check(a, B, delta)
    xp = array_namespace(a)
    w = a * delta / 2
    x, y = real(w), imag(w)
    if bool(xp.any((w == -1) | (w == 1))):
        raise ValueError("delta a must not be -2 or 2, where the bilinear rule puts the pole at 0 or infinity; change delta a little")
    left, right = (1 - x) ** 2 + y * y, (1 + x) ** 2 + y * y  # |1 - w|^2, |1 + w|^2
    B = (delta / (1 - w))[..., None] * B
    log_size = _half_log_ratio(right, left, difference=4 * x)
    if not is_complex(a) and bool(xp.all(xp.abs(w) < 1)):
        return log_size, B
    return complex_from(log_size, xp.atan2(y, 1 + x) + xp.atan2(y, 1 - x)), B


def euler_input(a: Inexact[Array, "*#batch #n"], B: Inexact[Array, "*#batch #n m"], delta: Float[Array, "*#batch #n"]) -> LogPolesAndInput:
    r"""Return lambda = e^{delta a},  B_d = delta B: exact for the state, Euler for the input, as Mamba's code does.

    Its gain at frequency 0 exceeds that of `zero_order_hold` by z / (1 - e^{-z}) with z = -delta a: 2.0 at z = 1.6.

    Raises
    ------
    TypeError
        If the arguments are not floating-point arrays of one library.
    ValueError
        If the shapes do not broadcast or ``delta`` is complex.

    References
    ----------
    Gu, Dao, arXiv 2312.00752, section 3.2 states the zero-order hold; their code uses this rule.
    """
    _check(a, B, delta)
    z = a * delta
    return z, array_namespace(z).broadcast_to(delta, z.shape)[..., None] * B


def _phi(z: Array) -> Array:
    """Return (e^z - 1) / z, and 1 at z = 0, with finite gradients there."""
    xp = array_namespace(z)
    zero = z == 0
    safe = xp.where(zero, xp.ones_like(z), z)
    return xp.where(zero, 1 + z / 2, expm1(safe) / safe)


def _half_log_ratio(right: Array, left: Array, *, difference: Array) -> Array:
    """Return log(right / left) / 2 from right - left: by log1p where the ratio is near 1, else from right / left."""
    xp = array_namespace(right)
    relative = difference / left
    near_one = relative > -0.5
    by_log1p = xp.log1p(xp.where(near_one, relative, xp.zeros_like(relative)))
    return xp.where(near_one, by_log1p, xp.log(right / left)) / 2


def _check(a: Array, B: Array, delta: Array) -> None:
    check_arrays({"a": a, "B": B, "delta": delta})
    if is_complex(delta):
        raise ValueError(f"delta must be real, got {delta.dtype}")
    shapes = f"a {tuple(a.shape)}, B {tuple(B.shape)}, delta {tuple(delta.shape)}"
    wanted = "a, B and delta must broadcast to (*batch, n), (*batch, n, m) and (*batch, n)"
    if min(a.ndim, B.ndim - 1, delta.ndim) < 1:
        raise ValueError(f"{wanted}, got {shapes}; a single step is delta[None]")
    try:
        broadcast_shapes(tuple(a.shape), tuple(delta.shape), tuple(B.shape[:-1]))
    except ValueError as error:
        raise ValueError(f"{wanted}, got {shapes}; one step per channel is delta[..., None]") from error
