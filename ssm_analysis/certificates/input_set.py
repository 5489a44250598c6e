r"""What can enter a layer: the image of a ball, as a norm in front of it or a bound of its input leave it.

    u = weight * x + bias,   ||x||_2 <= radius,   and sum(x) = 0 where the norm subtracts the mean.

RMSNorm: x = v / sqrt(mean(v^2) + eps) has ||x|| <= sqrt(d), below it by eps; LayerNorm also subtracts the mean. Every x of the
open ball is reached by some v, so the set is exact up to eps.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ssm_analysis.xp import Array, all_finite, double, is_array, to_numpy


@dataclass(frozen=True, eq=False, kw_only=True)
class RMSNorm:
    """v / sqrt(mean(v^2) + eps) * weight, what stands in front of the layer.

    ``weight`` is the factor itself: 1 + w for models that store w.
    """

    weight: Float[Array, " d_model"]
    eps: float = 0.0

    def __post_init__(self) -> None:
        _check_vectors(self, "weight")


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerNorm:
    """(v - mean(v)) / sqrt(var(v) + eps) * weight + bias, what stands in front of the layer."""

    weight: Float[Array, " d_model"]
    bias: Float[Array, " d_model"]
    eps: float = 0.0

    def __post_init__(self) -> None:
        _check_vectors(self, "weight", "bias")


@dataclass(frozen=True, eq=False, kw_only=True)
class InputSet:
    """The ball and its image.

    Parameters
    ----------
    weight, bias
        u = weight * x + bias.
    radius
        Of the ball of x.
    centered
        Whether sum(x) = 0.
    text
        The assumption in words.
    """

    weight: Float[np.ndarray, " d_model"]
    bias: Float[np.ndarray, " d_model"]
    radius: float
    centered: bool
    text: str

    def token(self, direction: Float[np.ndarray, "*rows d_model"]) -> Float[np.ndarray, "*rows d_model"]:
        """Return the u of the x on (a hair inside) the sphere in that direction of x."""
        x = direction - np.mean(direction, axis=-1, keepdims=True) if self.centered else direction
        size = np.linalg.norm(x, axis=-1, keepdims=True)
        x = x / np.where(size > 0, size, 1.0) * self.radius * INSIDE
        return self.weight * x + self.bias


INSIDE = 1 - 2.0**-30
"""Witnesses keep this far inside the sphere: the eps of a norm is smaller for inputs that are large enough, and rounding is."""


def input_set(norm: "RMSNorm | LayerNorm | None", input_radius: float | None, width: int, *, place: str = "") -> InputSet | None:
    """Return the set that the two arguments of `verify` describe; None where they say nothing.

    ``place`` says where in a checkpoint the norm stands.

    Raises
    ------
    TypeError
        If ``norm`` is neither of the two norms.
    ValueError
        If both arguments are given, the width does not fit, or the radius is not a positive number.
    """
    if norm is None and input_radius is None:
        return None
    if norm is not None and input_radius is not None:
        raise ValueError("norm and input_radius both bound the input of the layer; give one of them")
    if norm is None:
        assert input_radius is not None
        if not 0 < input_radius < math.inf:
            raise ValueError(f"input_radius must be a positive number, a bound of the 2-norm of each token's input; got {input_radius!r}")
        text = f"the input of the layer has the 2-norm {input_radius:g} at most at every token"
        return InputSet(weight=np.ones(width), bias=np.zeros(width), radius=float(input_radius), centered=False, text=text)
    if not isinstance(norm, RMSNorm | LayerNorm):
        raise TypeError(f"norm must be an RMSNorm or a LayerNorm of ssm_analysis.certificates, got {type(norm).__name__}")
    weight = to_numpy(double(norm.weight))
    if weight.shape != (width,):
        raise ValueError(f"the weight of the norm must have the shape ({width},) of what enters the layer, got {weight.shape}")
    centered = isinstance(norm, LayerNorm)
    bias = to_numpy(double(norm.bias)) if isinstance(norm, LayerNorm) else np.zeros(width)
    radius = math.nextafter(math.sqrt(width), math.inf)
    return InputSet(
        weight=weight,
        bias=bias,
        radius=radius,
        centered=centered,
        text=f"the input of the layer comes from a {type(norm).__name__}{f', {place} of the checkpoint' if place else ''}, as real numbers",
    )


def _check_vectors(norm: RMSNorm | LayerNorm, *names: str) -> None:
    for name in names:
        x = getattr(norm, name)
        if not is_array(x) or x.ndim != 1:
            raise TypeError(f"{name} of a {type(norm).__name__} must be an array with one axis, got {x!r}")
        if not all_finite(x):
            raise ValueError(f"{name} of a {type(norm).__name__} must be finite, got NaN or infinite entries")
        if x.shape != norm.weight.shape:
            raise ValueError(
                f"{name} of a {type(norm).__name__} must have the shape of weight, {tuple(norm.weight.shape)}, got {tuple(x.shape)}"
            )
    if not norm.eps >= 0:
        raise ValueError(f"eps of a {type(norm).__name__} must be a number from 0 on, got {norm.eps!r}")
