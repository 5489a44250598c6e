r"""Which eigenvalues move when numbers are kept in fewer bits, and how many land exactly on the circle.

Two different things can be rounded. The *parameters*, as a checkpoint in bfloat16 does: what moves is a decay rate, by half a unit in the
last place of its logarithm. Or the *discretized A*, as a kernel does that keeps e^{delta A} in bfloat16: numbers below 1 are then 2^-8
apart, so that every |lambda| above 1 - 2^-9 = 0.998 becomes 1, a state that never forgets. (float16: 1 - 2^-12, float32: 1 - 2^-25.)
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Inexact

from ssm_analysis.certificates.formats import ALIASES
from ssm_analysis.families.base import Layer
from ssm_analysis.inspection.examined import ExaminedLayer, examine
from ssm_analysis.inspection.poles_of_layers import LayerPoles
from ssm_analysis.inspection.rows import Row, Rows

DTYPES = ("float32", "bfloat16", "float16")
NUMPY_NAMES = {short: name for name, short in ALIASES.items()}
"""numpy's names of the formats with short names."""


def precision_audit(layer: Layer, *, dtypes: Sequence[str] = DTYPES) -> Rows:
    """Round the parameters of a layer, and then its discrete A, to each format and count the eigenvalues that this moves to the circle.

    The eigenvalues of a selective layer are those with the step of the bias alone.

    Parameters
    ----------
    layer
        The layer, in numpy or torch.
    dtypes
        Floating-point formats by the names of numpy and ml_dtypes, "float32", "bfloat16", "float8_e4m3fn", ..., or by the short names
        "fp32", "bf16" and "fp16".

    Returns
    -------
    Rows
        Two rows for each format: "dtype"; "kept", what is rounded, "parameters" or "discrete A"; the number of "eigenvalues";
        how many of them land "on_circle", |lambda| = 1, where they were inside, and "outside" where they were not; "not_finite", how
        many parameters the format cannot hold; "median_change" and "largest_change" of the decay rates -log|lambda|, relative, infinite
        where a rate becomes 0; and the time constant of the slowest eigenvalue in tokens, "slowest_before" and "slowest_after".

    Raises
    ------
    ValueError
        If there is no floating-point format of that name, or the eigenvalues of the layer can only be had in extended
        precision (S4 with many copies).

    Examples
    --------
    >>> layer = ssm.FAMILIES["s4d"].init(d_model=10, d_state=4, init="real", dt_max=1e-3)  # |lambda| from 0.996 to 0.999
    >>> [row["on_circle"] for row in ssm.precision_audit(layer, dtypes=["bf16"]) if row["kept"] == "discrete A"]
    [10]
    """
    rows = precision_of(examine(layer), dtypes)
    return Rows(rows, description=f"layer {layer.name or layer.family} kept in fewer bits")


def precision_of(examined: ExaminedLayer, dtypes: Sequence[str]) -> list[Row]:
    """Return the rows of `precision_audit` for a layer whose eigenvalues have been computed."""
    formats = [float_format(name) for name in dtypes]
    layer, before = examined.layer, examined.poles
    if not before.trusted:
        raise ValueError(f"layer {layer.name!r}: {before.matrix}; take fewer copies of A")
    rows = []
    for dtype in formats:
        rounded, lost = _rounded_parameters(layer, dtype)
        rows.append(_row(dtype, "parameters", before, None if lost else examine(rounded).poles.log_poles, lost))
        rows.append(_row(dtype, "discrete A", before, _rounded_poles(before.log_poles, dtype), 0))
    return rows


def float_format(name: str) -> np.dtype:
    """Return the floating-point dtype of that name, of numpy or of ml_dtypes; "fp32", "bf16" and "fp16" are short names.

    Raises
    ------
    ValueError
        If there is none.
    """
    import ml_dtypes

    formats = {"float16", "float32", "float64"} | {kind for kind in dir(ml_dtypes) if kind.startswith(("bfloat", "float"))}
    kind = NUMPY_NAMES.get(name, name)
    if kind not in formats:
        raise ValueError(f"dtypes must name floating-point formats, {', '.join(sorted(formats))}; got {name!r}")
    return np.dtype(getattr(ml_dtypes, kind) if hasattr(ml_dtypes, kind) else kind)


def round_to(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the nearest numbers of a format, back in 64 bits; real and imaginary part on their own."""
    if np.iscomplexobj(x):
        return round_to(np.real(x), dtype) + 1j * round_to(np.imag(x), dtype)
    with np.errstate(over="ignore"):
        return x.astype(dtype).astype(np.float64)


def _rounded_parameters(layer: Layer, dtype: np.dtype) -> tuple[Layer, int]:
    """Return the layer with rounded parameters, and how many the format cannot hold; then the layer is unchanged."""
    rounded = {name: round_to(x, dtype) for name, x in layer.params.items()}
    lost = sum(int(np.count_nonzero(~np.isfinite(x))) for x in rounded.values())
    return (layer, lost) if lost else (layer.map(lambda x: round_to(x, dtype)), 0)


def _rounded_poles(log_poles: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the log-poles of the rounded poles, -inf where a pole becomes 0."""
    with np.errstate(divide="ignore"):
        return np.log(np.abs(round_to(np.exp(log_poles), dtype)))


def _row(dtype: np.dtype, kept: str, before: LayerPoles, after: Inexact[np.ndarray, "*batch n"] | None, lost: int) -> Row:
    """Compare the decay rates before and after; ``after`` is None where the format cannot hold ``lost`` of the parameters."""
    old = before.rates
    new = np.full_like(old, np.nan) if after is None else -np.real(after).reshape(-1)
    inside = old > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.abs(new - old)[inside] / np.minimum(np.abs(new), old)[inside]
    change = change[~np.isnan(change)]
    return {
        "dtype": dtype.name,
        "kept": kept,
        "eigenvalues": old.size,
        "on_circle": int(np.sum(inside & (new == 0))),
        "outside": int(np.sum((old >= 0) & (new < 0))),
        "not_finite": lost,
        "median_change": float(np.median(change)) if change.size else float("nan"),
        "largest_change": float(np.max(change)) if change.size else float("nan"),
        "slowest_before": _slowest(old),
        "slowest_after": _slowest(new),
    }


def _slowest(rates: Float[np.ndarray, " k"]) -> float:
    """Return the time constant of the slowest eigenvalue, tokens: infinite without decay, NaN where the rates are."""
    least = float(np.min(rates))
    return float("nan") if np.isnan(least) else float("inf") if least <= 0 else 1 / least
