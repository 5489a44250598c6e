"""What is wrong with a layer, or looks as if nobody had trained it: findings that cost their owners days.

The most expensive one: since version 5 transformers has initialized A_log and the step biases again *after* it had loaded them, for
classes that did not mark them as loaded (fla-org/flash-linear-attention, pull request 820). Such a model runs, and is
subtly worse. Its A_log equals that of a fresh model to the last digit, which is what is looked for here.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ssm_analysis.families.base import Layer
from ssm_analysis.families.shared.transforms import apply_transform
from ssm_analysis.inspection.fresh import fresh_tensors
from ssm_analysis.inspection.poles_of_layers import LayerPoles

ABSURD = 1e6
"""No trained parameter of a published model is as large; memory that was never initialized often is."""
ABSURD_RATE = 25.0
"""|log rate| beyond this: decay rates below 1e-11 or above 1e11 per step."""
SLOWEST_STEP, FASTEST_STEP = 1e-6, 1e2
"""Steps are initialized between 1e-4 and 1e-1 in all families."""
LOG_RATES = ("A_log", "A_real", "nu_log")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing to look at."""

    layer: str
    severity: str
    """``error``: the layer cannot be right; ``warning``: it probably is not; ``note``: worth knowing."""
    code: str
    """For programs: "not-finite", "fresh-A_log", ..."""
    message: str

    def data(self) -> dict[str, str]:
        """As plain data."""
        return asdict(self)


def findings_of_tensors(name: str, tensors: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    """What is wrong with the numbers as such, whatever they mean; for layers that cannot even be built."""
    for leaf, x in tensors.items():
        if x.dtype.kind not in "fc" or not x.size:
            continue
        parts = (np.real(x), np.imag(x)) if np.iscomplexobj(x) else (x,)
        largest = max(float(np.maximum(part.max(), -part.min())) for part in parts)  # NaN if there is one; no copy of a large tensor
        if not math.isfinite(largest):
            bad = x.size - int(np.count_nonzero(np.isfinite(x)))
            yield Finding(
                layer=name, severity="error", code="not-finite", message=f"{leaf}: {bad:,} of {x.size:,} entries are NaN or infinite"
            )
        elif largest > ABSURD:
            yield Finding(
                layer=name, severity="error", code="absurd",
                message=f"{leaf} reaches {largest:.3g}: memory that was never initialized, or a model that diverged",
            )  # fmt: skip
        elif x.size > 1 and largest == 0 and not leaf.endswith(("bias", ".b", "_bias")):
            yield Finding(layer=name, severity="warning", code="all-zero", message=f"{leaf} is 0 everywhere")


def findings(layer: Layer, poles: LayerPoles) -> Iterator[Finding]:
    """What is wrong with a layer that can be built."""
    yield from _freshness(layer)
    yield from _circle(layer, poles)
    yield from _rates_and_steps(layer)
    yield from _dead(layer)
    yield from _aliased(layer)
    for name, assumption in layer.assumptions.items():
        if assumption.note and assumption.source == "caller":
            yield _warning(layer, "conflict", f"{name} is taken to be {assumption.value!r} as you say, though {assumption.note}")
        elif assumption.note and assumption.source == "original default":
            yield _warning(
                layer, "ambiguous", f"{name}: {assumption.note}; the default of the original code, {assumption.value!r}, is taken"
            )


def _freshness(layer: Layer) -> Iterator[Finding]:
    for tensor, words, suspicious in fresh_tensors(layer):
        yield Finding(
            layer=layer.name,
            severity="warning" if suspicious else "note",
            code=f"fresh-{tensor}",
            message=f"{tensor} is {words}" + ("; if this model was trained, something has overwritten it" if suspicious else ""),
        )


def _circle(layer: Layer, poles: LayerPoles) -> Iterator[Finding]:
    outside = int(np.sum(poles.rates < 0))
    on = int(np.sum(poles.rates == 0))
    if outside:
        growth = -float(np.min(poles.rates))
        yield Finding(
            layer=layer.name, severity="error", code="unstable",
            message=f"{_eigenvalues(outside)} outside the unit circle; the fastest grows e-fold every {1 / growth:,.4g} tokens",
        )  # fmt: skip
    if on:
        yield _warning(layer, "on-circle", f"{_eigenvalues(on)} on the unit circle: no forgetting, and errors add up")


def _eigenvalues(count: int) -> str:
    return f"{count:,} eigenvalues lie" if count > 1 else "1 eigenvalue lies"


def _rates_and_steps(layer: Layer) -> Iterator[Finding]:
    for name in LOG_RATES:
        x = layer.params.get(name)
        transform = layer.options.get("real_transform", "exp")
        if x is not None and transform == "exp" and (worst := float(np.max(np.abs(x)))) > ABSURD_RATE:
            yield _warning(layer, "absurd-rate", f"{name} reaches {worst:.3g} in size: decay rates of e^±{worst:.3g}")
    step = _steps(layer)
    if step is None:
        return
    if np.any(step < SLOWEST_STEP) or np.any(step > FASTEST_STEP):
        yield _warning(
            layer, "absurd-step", f"steps lie between {np.min(step):.3g} and {np.max(step):.3g}; they start between 1e-4 and 1e-1"
        )
    low, high = layer.options.get("time_step_limit", (0.0, math.inf))
    clamped = int(np.sum((step < low) | (step > high)))
    if clamped:
        yield _warning(
            layer, "clamped-step", f"at the bias the steps of {clamped} of {step.size} heads lie outside their clamp [{low:g}, {high:g}]"
        )


def _dead(layer: Layer) -> Iterator[Finding]:
    """Channels that pass nothing on, whatever enters."""
    p = layer.params
    if layer.family in ("s4", "s4d"):
        dead, unit, why = np.sum(np.abs(p["C"]), axis=(0, -1)) == 0, "channels", "C is 0"
    elif layer.family in ("s6", "mamba2"):
        taps = np.abs(p["conv1d.weight"]).reshape(len(p["conv1d.weight"]), -1)
        dead, unit, why = taps.max(axis=1) == 0, "channels", "the taps of the convolution are 0"
    elif layer.family in ("s5", "lru"):
        B = np.abs(p["B"]) if "B" in p else np.hypot(p["B_re"], p["B_im"])
        C = np.abs(p["C"]) if "C" in p else np.hypot(p["C_re"], p["C_im"])
        dead, unit, why = (B.max(axis=1) == 0) | (C.max(axis=0) == 0), "states", "all weights in or out are 0"
    else:
        return
    if np.any(dead):
        yield _warning(layer, "dead", f"{int(dead.sum())} of {dead.size} {unit} carry nothing: {why}")


def _aliased(layer: Layer) -> Iterator[Finding]:
    """Modes whose frequency one token is too long to show; the bilinear rule warps them instead."""
    if layer.family not in ("s4d", "s5") or layer.options.get("disc", layer.options.get("discretization")) == "bilinear":
        return
    p, step = layer.params, _steps(layer)
    assert step is not None
    if layer.family == "s5":
        turned = np.abs(step * layer.options.get("step_rescale", 1.0) * p["Lambda_im"])
    elif "A_imag" in p:
        frequency = apply_transform(layer.options.get("imag_transform", "none"), p["A_imag"])
        turned = np.abs(step * np.resize(frequency, (len(step), frequency.shape[1])))
    else:
        return
    aliased = int(np.sum(turned > math.pi))
    if aliased:
        yield _warning(
            layer, "aliased", f"{aliased} of {turned.size} modes turn by more than pi per token: they act as lower frequencies than learned"
        )


def _steps(layer: Layer) -> np.ndarray | None:
    """Learned steps; of selective layers those of the bias."""
    p, options = layer.params, layer.options
    if "inv_dt" in p:
        return apply_transform(options.get("dt_transform", "exp"), p["inv_dt"])
    if "log_step" in p:
        return np.exp(p["log_step"])
    bias = next((p[name] for name in ("dt_proj.bias", "dt_proj_bias", "dt_bias") if name in p), None)
    return None if bias is None else apply_transform("softplus", np.reshape(bias, -1)) + options.get("dt_offset", 0.0)


def _warning(layer: Layer, code: str, message: str) -> Finding:
    return Finding(layer=layer.name, severity="warning", code=code, message=message)


def as_data(found: Iterator[Finding]) -> list[dict[str, Any]]:
    """Plain data, the worst first."""
    order = {"error": 0, "warning": 1, "note": 2}
    return [finding.data() for finding in sorted(found, key=lambda finding: order[finding.severity])]
