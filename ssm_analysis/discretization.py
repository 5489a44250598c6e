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

from ssm_analysis.xp import Array, array_namespace, broadcast_shapes, complex_from, expm1, imag, is_complex, real, to_complex

LogPolesAndInput = tuple[Inexact[Array, "*batch n"], Inexact[Array, "*batch n m"]]


def zero_order_hold(a: Inexact[Array, "*batch n"], B: Inexact[Array, "*batch n m"], delta: Float[Array, "*batch n"]) -> LogPolesAndInput:
    r"""lambda = e^{delta a},  B_d = (e^{delta a} - 1) / a B: exact for an input that is constant during a step.

    Same as ``scipy.signal.cont2discrete(..., method="zoh")`` for a diagonal system; at a = 0 the limit delta B.

    Raises
    ------
    ValueError
        If the shapes do not broadcast.

    References
    ----------
    Franklin, Powell, Workman, Digital Control of Dynamic Systems, 3rd ed., section 4.3.
    """
    delta = _checked(a, B, delta)
    z = a * delta
    return z, _scaled(delta * _phi(z), B)


def bilinear(a: Inexact[Array, "*batch n"], B: Inexact[Array, "*batch n m"], delta: Float[Array, "*batch n"]) -> LogPolesAndInput:
    r"""lambda = (1 + delta a/2) / (1 - delta a/2),  B_d = delta / (1 - delta a/2) B: Tustin's rule as S4 uses it.

    The poles are those of ``scipy.signal.cont2discrete(..., method="bilinear")``. The left half plane becomes the
    unit disk; frequencies are warped, not aliased. log|lambda| is taken as
    log1p(4 Re w / |1 - w|^2) / 2 with w = delta a/2, which loses nothing near the circle.

    Raises
    ------
    ValueError
        If the shapes do not broadcast.

    References
    ----------
    Tustin, J. IEE 94 (1947) 130-142; Gu, Goel, Re, arXiv 2111.00396, equation (3).
    """
    delta = _checked(a, B, delta)
    xp = array_namespace(a)
    w = a * delta / 2
    x, y = real(w), imag(w)
    log_size = xp.log1p(4 * x / ((1 - x) ** 2 + y * y)) / 2
    if not is_complex(a) and bool(xp.all(xp.abs(w) < 1)):
        return log_size, _scaled(delta / (1 - w), B)
    return complex_from(log_size, xp.atan2(y, 1 + x) + xp.atan2(y, 1 - x)), _scaled(delta / (1 - w), B)


def euler_input(a: Inexact[Array, "*batch n"], B: Inexact[Array, "*batch n m"], delta: Float[Array, "*batch n"]) -> LogPolesAndInput:
    r"""lambda = e^{delta a},  B_d = delta B: exact for the state, Euler for the input, as Mamba's code does.

    Its gain at frequency 0 exceeds that of `zero_order_hold` by z / (1 - e^{-z}) with z = -delta a: 2.0 at z = 1.6.

    Raises
    ------
    ValueError
        If the shapes do not broadcast.

    References
    ----------
    Gu, Dao, arXiv 2312.00752, section 3.2 states the zero-order hold; their code uses this rule.
    """
    delta = _checked(a, B, delta)
    return a * delta, _scaled(delta, B)


def _phi(z: Array) -> Array:
    """(e^z - 1) / z, and 1 at z = 0, with finite gradients there."""
    xp = array_namespace(z)
    zero = z == 0
    safe = xp.where(zero, xp.ones_like(z), z)
    return xp.where(zero, 1 + z / 2, expm1(safe) / safe)


def _scaled(gain: Array, B: Array) -> Array:
    gain = gain[..., None]
    return gain * B if is_complex(gain) == is_complex(B) else to_complex(gain) * to_complex(B)


def _checked(a: Array, B: Array, delta: Array) -> Array:
    shapes = f"a {tuple(a.shape)}, B {tuple(B.shape)}, delta {tuple(delta.shape)}"
    if is_complex(delta):
        raise ValueError(f"delta must be real, got {delta.dtype}")
    try:
        broadcast_shapes(tuple(a.shape), tuple(delta.shape), tuple(B.shape[:-1]))
    except ValueError as error:
        raise ValueError(
            f"a, B and delta must broadcast to (*batch, n), (*batch, n, m) and (*batch, n), got {shapes}; "
            "one step per channel is delta[..., None]"
        ) from error
    return delta
