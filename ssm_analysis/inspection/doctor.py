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

from ssm_analysis.families import FAMILIES, Layer
from ssm_analysis.families.shared.facts import Facts
from ssm_analysis.inspection.poles_of_layers import LayerPoles

ABSURD = 1e6
"""No trained parameter of a published model is as large; memory that was never initialized often is."""
ABSURD_RATE = 25.0
"""|log rate| beyond this: decay rates below 1e-11 or above 1e11 per step."""
SLOWEST_STEP, FASTEST_STEP = 1e-6, 1e2
"""Steps are initialized between 1e-4 and 1e-1 in all families."""


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
        """Return plain data."""
        return asdict(self)


def findings_of_tensors(name: str, tensors: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    """Yield what is wrong with the numbers as such, whatever they mean; for layers that cannot even be built."""
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
    """Yield what is wrong with a layer that can be built."""
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
    for tensor in _facts(layer).fresh(layer.params, layer.options):
        yield Finding(
            layer=layer.name,
            severity="warning" if tensor.suspicious else "note",
            code=f"fresh-{tensor.name}",
            message=f"{tensor.name} is {tensor.words}"
            + ("; if this model was trained, something has overwritten it" if tensor.suspicious else ""),
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
    facts = _facts(layer)
    for name, x in facts.log_rates(layer.params, layer.options).items():
        if (worst := float(np.max(np.abs(x)))) > ABSURD_RATE:
            yield _warning(layer, "absurd-rate", f"{name} reaches {worst:.3g} in size: decay rates of e^±{worst:.3g}")
    step = facts.steps(layer.params, layer.options)
    if step is None:
        return
    if np.any(step < SLOWEST_STEP) or np.any(step > FASTEST_STEP):
        yield _warning(
            layer, "absurd-step", f"steps lie between {np.min(step):.3g} and {np.max(step):.3g}; they start between 1e-4 and 1e-1"
        )
    low, high = facts.step_limits(layer.options)
    clamped = int(np.sum((step < low) | (step > high)))
    if clamped:
        yield _warning(
            layer, "clamped-step", f"at the bias the steps of {clamped} of {step.size} heads lie outside their clamp [{low:g}, {high:g}]"
        )


def _dead(layer: Layer) -> Iterator[Finding]:
    """Yield a finding if channels or states pass nothing on, whatever enters."""
    units = _facts(layer).dead(layer.params, layer.options)
    if units is not None and np.any(units.dead):
        yield _warning(layer, "dead", f"{int(units.dead.sum())} of {units.dead.size} {units.unit} carry nothing: {units.why}")


def _aliased(layer: Layer) -> Iterator[Finding]:
    """Yield a finding if modes have a frequency that one token is too long to show."""
    angles = _facts(layer).turns(layer.params, layer.options)
    if angles is None:
        return
    aliased = int(np.sum(angles > math.pi))
    if aliased:
        yield _warning(
            layer, "aliased", f"{aliased} of {angles.size} modes turn by more than pi per token: they act as lower frequencies than learned"
        )


def _facts(layer: Layer) -> Facts:
    return FAMILIES[layer.family].facts


def _warning(layer: Layer, code: str, message: str) -> Finding:
    return Finding(layer=layer.name, severity="warning", code=code, message=message)


def as_data(found: Iterator[Finding]) -> list[dict[str, Any]]:
    """Return plain data, the worst first."""
    order = {"error": 0, "warning": 1, "note": 2}
    return [finding.data() for finding in sorted(found, key=lambda finding: order[finding.severity])]
