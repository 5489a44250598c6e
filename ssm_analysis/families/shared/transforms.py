r"""The maps of S4 and S4D from free parameters to positive steps and rates, and from a few copies of a system to all channels.

=========  ===================  ==========================
name       f(x)                 range
=========  ===================  ==========================
exp        e^x                  (0, inf)
softplus   log(1 + e^x)         (0, inf)
relu       max(x, 0) + 1e-4     [1e-4, inf)
sigmoid    1 / (1 + e^-x)       (0, 1)
none       x                    all numbers
=========  ===================  ==========================

The names are those of the options ``dt_transform``, ``real_transform`` and ``imag_transform`` of the original
implementation (state-spaces/s4, ``param_transform``).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from jaxtyping import Float, Shaped

from ssm_analysis.xp import Array, array_namespace

if TYPE_CHECKING:
    import flint

RELU_FLOOR = 1e-4
"""The constant that the original implementation adds to relu, so that a step or a decay rate is never 0."""


def apply_transform(name: str, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return f(x) for the transform f called ``name``, without intermediate overflow; gradients pass through it.

    Raises
    ------
    ValueError
        If ``name`` is not in the table above.

    Examples
    --------
    >>> from ssm_analysis.families.shared.transforms import apply_transform
    >>> apply_transform("softplus", np.asarray([-9.0, 0.0, 9.0])).round(4)
    array([1.0000e-04, 6.9310e-01, 9.0001e+00])
    """
    check_transform("a transform", name)
    return _TRANSFORMS[name](x)


def exact_transform(name: str, x: float) -> "flint.arb":
    """Enclose f(x) in a ball, in the working precision of flint; x is taken as an exact number.

    Raises
    ------
    ValueError
        If ``name`` is not in the table above.
    """
    import flint

    check_transform("a transform", name)
    ball = flint.arb(float(x))
    exact = {
        "exp": ball.exp,
        "softplus": lambda: ball.exp().log1p(),
        "relu": lambda: flint.arb(max(float(x), 0.0)) + RELU_FLOOR,
        "sigmoid": lambda: 1 / (1 + (-ball).exp()),
        "none": lambda: ball,
    }
    return exact[name]()


def tile_copies(x: Shaped[Array, "copies *rest"], d_model: int) -> Shaped[Array, "channels *rest"]:
    """Repeat S copies along the H channels, (S, ...) -> (H, ...): channel h uses copy h mod S.

    Equivalent to ``einops.repeat(x, "t n -> (v t) n")``.

    Raises
    ------
    ValueError
        If the number of channels is not a multiple of the number of copies.

    Examples
    --------
    >>> from ssm_analysis.families.shared.transforms import tile_copies
    >>> tile_copies(np.asarray([10.0, 20.0]), 4)
    array([10., 20., 10., 20.])
    """
    copies = x.shape[0]
    if copies == 0 or d_model % copies:
        raise ValueError(f"the number of channels must be a multiple of the number of copies (n_ssm), got {d_model} and {copies}")
    xp = array_namespace(x)
    return xp.reshape(xp.broadcast_to(x, (d_model // copies, *x.shape)), (d_model, *x.shape[1:]))


def check_transform(option: str, name: str) -> None:
    """Raise a ValueError that lists the transforms unless ``name``, the value of ``option``, is one of them."""
    if name not in _TRANSFORMS:
        raise ValueError(f"{option} must be one of {', '.join(_TRANSFORMS)}, got {name!r}")


def _exp(x: Array) -> Array:
    return array_namespace(x).exp(x)


def _softplus(x: Array) -> Array:
    xp = array_namespace(x)
    return xp.logaddexp(x, xp.zeros_like(x))


def _relu(x: Array) -> Array:
    xp = array_namespace(x)
    return xp.where(x > 0, x, xp.zeros_like(x)) + RELU_FLOOR


def _sigmoid(x: Array) -> Array:
    return _exp(-_softplus(-x))


def _none(x: Array) -> Array:
    return x


_TRANSFORMS: dict[str, Callable[[Array], Array]] = {
    "exp": _exp,
    "softplus": _softplus,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "none": _none,
}
NAMES = tuple(_TRANSFORMS)
