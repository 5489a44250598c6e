r"""Which eigenvalues move when numbers are kept in fewer bits, and how many land exactly on the circle.

Two different things can be rounded. The *parameters*, as a checkpoint in bfloat16 does: what moves is a decay rate, by half a unit in the
last place of its logarithm. Or the *discretized A*, as a kernel does that keeps e^{delta A} in bfloat16: numbers below 1 are then 2^-8
apart, so that every |lambda| above 1 - 2^-9 = 0.998 becomes 1, a state that never forgets. (float16: 1 - 2^-12, float32: 1 - 2^-25.)
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ssm_analysis.families.base import Layer
from ssm_analysis.inspection.poles_of_layers import LayerPoles, layer_poles
from ssm_analysis.xp import to_numpy

DTYPES = ("float32", "bfloat16", "float16")
KEPT = ("parameters", "discrete A")


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """The eigenvalues of one layer after one rounding."""

    dtype: str
    kept: str
    """What is rounded: "parameters" or "discrete A"."""
    eigenvalues: int
    on_circle: int
    """|lambda| is exactly 1 where it was less."""
    outside: int
    """|lambda| exceeds 1 where it did not."""
    not_finite: int
    """Parameters that the format cannot hold."""
    median_change: float
    """Of -log|lambda|, relative; infinite where a rate becomes 0."""
    largest_change: float
    slowest_before: float
    """Time constant of the slowest eigenvalue, tokens."""
    slowest_after: float

    def data(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def precision_audit(layer: Layer, *, dtypes: Sequence[str] = DTYPES, poles: LayerPoles | None = None) -> list[Rounded]:
    """Return rounded parameters and a rounded discrete A, for each format; of selective layers with the step of the bias alone.

    Parameters
    ----------
    layer
        The layer, in numpy or torch.
    dtypes
        Names that numpy or ml_dtypes knows: "float32", "bfloat16", "float16", "float8_e4m3fn", ...
    poles
        ``layer_poles(layer, ...)``, which need not be computed twice.

    Raises
    ------
    ValueError
        If there is no floating-point format of that name, or the eigenvalues of the layer can only be had in extended
        precision (S4 with many copies).

    Examples
    --------
    >>> import ssm_analysis as ssm
    >>> from ssm_analysis.inspection.precision_audit import precision_audit
    >>> layer = ssm.FAMILIES["s4d"].init(d_model=10, d_state=4, init="real", dt_max=1e-3)  # |lambda| from 0.996 to 0.999
    >>> [rounded.on_circle for rounded in precision_audit(layer, dtypes=("bfloat16",)) if rounded.kept == "discrete A"]
    [10]
    """
    formats = [float_format(name) for name in dtypes]
    layer = layer.map(to_numpy)
    before = poles or _poles(layer)
    if not before.trusted:
        raise ValueError(f"layer {layer.name!r}: {before.matrix}; take fewer copies of A")
    found = []
    for dtype in formats:
        rounded, lost = _rounded_parameters(layer, dtype)
        found.append(_compared(dtype.name, "parameters", before, None if lost else _poles(rounded).log_poles, lost))
        found.append(_compared(dtype.name, "discrete A", before, _rounded_poles(before.log_poles, dtype), 0))
    return found


def float_format(name: str) -> np.dtype:
    """Return the floating-point dtype of that name, of numpy or of ml_dtypes."""
    import ml_dtypes

    known = {"float16", "float32", "float64"} | {kind for kind in dir(ml_dtypes) if kind.startswith(("bfloat", "float"))}
    if name not in known:
        raise ValueError(f"dtypes must name floating-point formats, {', '.join(sorted(known))}; got {name!r}")
    return np.dtype(getattr(ml_dtypes, name) if hasattr(ml_dtypes, name) else name)


def round_to(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the nearest numbers of a format, back in 64 bits; real and imaginary part on their own."""
    if np.iscomplexobj(x):
        return round_to(np.real(x), dtype) + 1j * round_to(np.imag(x), dtype)
    with np.errstate(over="ignore"):
        return x.astype(dtype).astype(np.float64)


def _poles(layer: Layer) -> LayerPoles:
    return layer_poles(layer, None if layer.time_varying else layer.system())


def _rounded_parameters(layer: Layer, dtype: np.dtype) -> tuple[Layer, int]:
    """Return the layer with rounded parameters, and how many the format cannot hold; then the layer is unchanged."""
    rounded = {name: round_to(x, dtype) for name, x in layer.params.items()}
    lost = sum(int(np.count_nonzero(~np.isfinite(x))) for x in rounded.values())
    return (layer, lost) if lost else (layer.map(lambda x: round_to(x, dtype)), 0)


def _rounded_poles(log_poles: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return Log-poles of the rounded poles; -inf where a pole becomes 0."""
    with np.errstate(divide="ignore"):
        return np.log(np.abs(round_to(np.exp(log_poles), dtype)))


def _compared(dtype: str, kept: str, before: LayerPoles, after: np.ndarray | None, lost: int) -> Rounded:
    old = before.rates
    new = np.full_like(old, np.nan) if after is None else -np.real(after).reshape(-1)
    inside = old > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.abs(new - old)[inside] / np.minimum(np.abs(new), old)[inside]
    change = change[~np.isnan(change)]
    return Rounded(
        dtype=dtype,
        kept=kept,
        eigenvalues=old.size,
        on_circle=int(np.sum(inside & (new == 0))),
        outside=int(np.sum((old >= 0) & (new < 0))),
        not_finite=lost,
        median_change=float(np.median(change)) if change.size else float("nan"),
        largest_change=float(np.max(change)) if change.size else float("nan"),
        slowest_before=_slowest(old),
        slowest_after=_slowest(new),
    )


def _slowest(rates: np.ndarray) -> float:
    least = float(np.min(rates))
    return float("nan") if np.isnan(least) else float("inf") if least <= 0 else 1 / least
