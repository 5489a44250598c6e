"""Transforms of parameters with all rounding counted: their signs, and intervals that hold their values."""

import numpy as np

from ssm_analysis.certificates.rounding import Interval, exp, sigmoid, softplus
from ssm_analysis.families.shared.transforms import RELU_FLOOR, tile_copies


def transform_sign(name: str, x: np.ndarray) -> np.ndarray:
    """Return the exact sign of f(x) for the transform of that name: all but ``none`` are positive."""
    return np.sign(x).astype(int) if name == "none" else np.ones(np.shape(x), dtype=int)


def enclosed_transform(name: str, x: np.ndarray) -> Interval:
    """Return an interval that holds f(x), x taken as exact."""
    exact = Interval.exact(x)
    if name == "relu":
        return Interval.exact(np.maximum(x, 0.0)) + Interval.exact(np.full(x.shape, RELU_FLOOR))
    return {"exp": exp, "softplus": softplus, "sigmoid": sigmoid, "none": lambda v: v}[name](exact)


def tile_interval(x: Interval, H: int) -> Interval:
    """Return the interval of a few copies repeated for H features, as `tile_copies` does with arrays."""
    return Interval(tile_copies(x.lo, H), tile_copies(x.hi, H))
