r"""What the choice of the discretization rule does to a continuous-time layer x' = a x + B u, y = C x.

At frequency 0 each mode of the continuous system has the gain C B / (-a). Zero-order hold and the bilinear rule keep it:

    C (1 - lambda)^{-1} B_d = C B / (-a)   with   B_d = (e^{delta a} - 1) / a B   or   delta / (1 - delta a / 2) B.

Euler's rule for the input, B_d = delta B with lambda = e^{delta a}, multiplies it by z / (1 - e^{-z}), z = -delta a: 1 + z/2 for
small steps, z for large ones. The read-out after the update, as the papers write it, has the same gain at frequency 0.
"""

import math
from dataclasses import dataclass

from jaxtyping import Bool, Float, Inexact

from ssm_analysis.systems.base import check_arrays
from ssm_analysis.systems.discretization import bilinear, zero_order_hold
from ssm_analysis.xp import Array, abs2, array_namespace, broadcast_shapes, double, expm1, imag, is_complex, matmul, real, to_complex


@dataclass(frozen=True, eq=False, kw_only=True)
class DiscretizationAudit:
    """The same continuous-time modes under three rules; feed-through is left out.

    Parameters
    ----------
    log_poles
        Of zero-order hold and of Euler input, which share them.
    bilinear_log_poles
        Of the bilinear rule; its frequencies are warped.
    mode_dc_ratio
        Gain of Euler input over zero-order hold at frequency 0, for each mode: z / (1 - e^-z) with z = -delta a.
    dc_gain
        Gain at frequency 0 of the continuous system, of zero-order hold and of the bilinear rule.
    euler_dc_gain
        The same of Euler input.
    dc_ratio
        ||euler_dc_gain|| / ||dc_gain|| of each system (Frobenius norm); NaN where the latter is 0.
    aliased
        Modes with delta |Im a| > pi: a token is too long to show their frequency, and zero-order hold folds it.
    """

    log_poles: Inexact[Array, "*batch n"]
    bilinear_log_poles: Inexact[Array, "*batch n"]
    mode_dc_ratio: Inexact[Array, "*batch n"]
    dc_gain: Inexact[Array, "*batch p m"]
    euler_dc_gain: Inexact[Array, "*batch p m"]
    dc_ratio: Float[Array, "*batch"]
    aliased: Bool[Array, "*batch n"]


def discretization_audit(
    a: Inexact[Array, "*#batch #n"],
    B: Inexact[Array, "*#batch #n m"],
    C: Inexact[Array, "*#batch p #n"],
    delta: Float[Array, "*#batch #n"],
    *,
    one_of_each_pair: bool = False,
) -> DiscretizationAudit:
    """Compare zero-order hold, bilinear rule and Euler input for continuous modes a with steps delta.

    Parameters
    ----------
    a, B, C
        Poles, input and output weights of the modes, in continuous time; they broadcast.
    delta
        Learned steps, one for each state, or with a last axis of length 1 one for each channel.
    one_of_each_pair
        Whether the layer takes the real part of its output, as S4D, S5 and LRU do: then gains are real parts too. A factor 2
        in front of the real part belongs into C.

    Raises
    ------
    TypeError
        If the arguments are not floating-point arrays of one library.
    ValueError
        If shapes do not broadcast, ``delta`` is not real and positive, a mode has a = 0 (an integrator has no gain at
        frequency 0), or delta a is -2 or 2, where the bilinear rule has no pole.

    Examples
    --------
    >>> from ssm_analysis.analyses.responses.discretization_audit import discretization_audit
    >>> one = np.ones((1, 1))
    >>> float(discretization_audit(np.asarray([-1.6]), one, one, np.asarray([1.0])).dc_ratio.round(3))
    2.005
    """
    check_arrays({"a": a, "B": B, "C": C, "delta": delta})
    xp = array_namespace(a)
    a, B, C, delta = _broadcast(*(double(x) for x in (a, B, C, delta)))
    log_poles, _ = zero_order_hold(a, B, delta)
    if bool(xp.any(delta <= 0)):
        raise ValueError("delta must be positive, got a step that is 0 or negative; pass the step itself, not its logarithm")
    if bool(xp.any(a == 0)):
        raise ValueError("a must not be 0: an integrator has no gain at frequency 0 to compare")
    bilinear_log_poles, _ = bilinear(a, B, delta)
    ratio = log_poles / expm1(log_poles)  # z / (1 - e^-z)
    settled = _divided(B, -a[..., None])
    gain, euler_gain = matmul(C, settled), matmul(C, ratio[..., None] * settled)
    if one_of_each_pair:
        gain, euler_gain = real(gain), real(euler_gain)
    size, euler_size = (xp.sqrt(xp.sum(abs2(x), axis=(-2, -1))) for x in (gain, euler_gain))
    some = size > 0
    return DiscretizationAudit(
        log_poles=log_poles,
        bilinear_log_poles=bilinear_log_poles,
        mode_dc_ratio=ratio,
        dc_gain=gain,
        euler_dc_gain=euler_gain,
        dc_ratio=xp.where(some, euler_size, xp.full_like(size, math.nan)) / xp.where(some, size, xp.ones_like(size)),
        aliased=xp.abs(imag(log_poles)) > math.pi,
    )


def _broadcast(a: Array, B: Array, C: Array, delta: Array) -> tuple[Array, Array, Array, Array]:
    """Return the arrays with all their batch axes and states."""
    xp, shapes = array_namespace(a), [tuple(x.shape) for x in (a, B, C, delta)]
    try:
        if min(a.ndim, B.ndim - 1, C.ndim - 1, delta.ndim) < 1:
            raise ValueError("too few axes")
        shape = broadcast_shapes(shapes[0], shapes[1][:-1], (*shapes[2][:-2], shapes[2][-1]), shapes[3])
    except ValueError as error:
        raise ValueError(
            "a, B, C and delta must broadcast to (*batch, n), (*batch, n, m), (*batch, p, n) and (*batch, n), "
            f"got {', '.join(map(str, shapes))}; one step per channel is delta[..., None]"
        ) from error
    *batch, n = shape
    sizes = (shape, (*shape, shapes[1][-1]), (*batch, shapes[2][-2], n), shape)
    a, B, C, delta = (xp.broadcast_to(x, size) for x, size in zip((a, B, C, delta), sizes, strict=True))
    return a, B, C, delta


def _divided(x: Array, y: Array) -> Array:
    return x / y if is_complex(x) == is_complex(y) else to_complex(x) / to_complex(y)
