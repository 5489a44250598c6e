"""Layers whose matrices depend on the input: properties for every input that can come."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ssm_analysis.certificates.certificate import INPUT_BOUND, Certificate, Quantity
from ssm_analysis.certificates.formats import FORMATS, pole_range_verdict
from ssm_analysis.certificates.question import NEEDS_INPUT, Inquiry, counted_text, magnitude
from ssm_analysis.certificates.rounding import above
from ssm_analysis.certificates.witness import Drive

ONCE = (
    "step, B and u of the scan are those of exact arithmetic to a relative 2^-10; from them pole and input are computed in 32 bits or more "
    "and rounded once to {dtype}, and so is the state at every step of a sequential scan"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Example:
    """An input and what it reaches in one channel.

    Parameters
    ----------
    u
        (L, d_model).
    index
        Channel and state.
    value
        The number that was computed.
    """

    u: np.ndarray
    index: tuple[int, ...]
    value: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Ranges:
    """What is known of a selective layer for every admissible input.

    Parameters
    ----------
    rate
        Lower bound of -log(lambda) per token, by channel.
    decays
        Whether 0 < lambda < 1 for every input, as real numbers: the sign alone.
    state, output
        Upper bounds of |h| (the largest state of each channel) and of what the scan returns, by channel; infinite where there is none.
    root
        For bounds that grow with the length: |h| <= root sqrt(L), by channel.
    slow, large
        Inputs that reach a slow rate, and a large state; None where none was looked for.
    state_seen
        Largest |h| that an input was seen to reach, by channel.
    quantities
        Other two-sided numbers by name, first the step.
    per_channel
        Arrays of them.
    theorems
        Keys for ``rate``, ``state``.
    reasons
        Why there is no ``rate`` or ``state``.
    convex
        Whether T6 applies: h' = lambda h + x with |x| <= (1 - lambda) times the bound of the state.
    """

    rate: np.ndarray
    decays: bool
    state: np.ndarray
    output: np.ndarray
    theorems: Mapping[str, str]
    root: np.ndarray | None = None
    slow: Example | None = None
    large: Example | None = None
    state_seen: np.ndarray | None = None
    quantities: Mapping[str, Quantity] = field(default_factory=dict)
    per_channel: Mapping[str, np.ndarray] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    convex: bool = True


def selective_answers(inquiry: Inquiry, ranges: Ranges) -> Iterator[Certificate]:
    """Yield all properties of a selective layer."""
    yield from _rates(inquiry, ranges)
    yield _non_expansive(inquiry, ranges)
    yield from _bounds(inquiry, ranges)
    for dtype in inquiry.dtypes:
        yield _pole_inside(inquiry, ranges, dtype)
        yield _no_overflow(inquiry, ranges, dtype)
    for name, limit in (("hinf_below", inquiry.question.hinf_below), ("l1_below", inquiry.question.l1_below)):
        if limit is not None:
            yield inquiry.undecided(name, "a layer that depends on its input has no transfer function; see bounded_output")


def _slowest(ranges: Ranges) -> Quantity:
    seen = math.inf if ranges.slow is None else ranges.slow.value
    return Quantity(lower=float(np.min(ranges.rate)), upper=seen, unit="per token")


def _rates(inquiry: Inquiry, ranges: Ranges) -> Iterator[Certificate]:
    slowest = _slowest(ranges)
    known = {
        "rigor": "float with counted rounding",
        "assumptions": inquiry.assumed,
        "quantities": {"slowest decay rate": slowest, **ranges.quantities},
        "per_channel": {"slowest rate": ranges.rate, **ranges.per_channel},
    }
    for name in ("asymptotic_stability", "uniform_exponential_stability"):
        if slowest.lower > 0:
            yield inquiry.answer(name, "proved", theorem=ranges.theorems["rate"], **known)
        else:
            yield inquiry.undecided(name, _rate_reason(inquiry, ranges), needs=_needs(inquiry, ranges, "rate"), **known)


def _needs(inquiry: Inquiry, ranges: Ranges, bound: str) -> frozenset[str]:
    """Return what would help to find the bound, unless the layer itself stands in the way."""
    return frozenset({INPUT_BOUND}) if inquiry.inputs is None and bound not in ranges.reasons else frozenset()


def _rate_reason(inquiry: Inquiry, ranges: Ranges) -> str:
    if "rate" in ranges.reasons:
        return ranges.reasons["rate"]
    if inquiry.inputs is None:
        return f"the step can come arbitrarily close to 0 along a ray of inputs, and {NEEDS_INPUT}"
    return "the lower bound of the rate underflows to 0 in double precision: it is positive for every input, but no useful bound is known"


def _non_expansive(inquiry: Inquiry, ranges: Ranges) -> Certificate:
    name = "non_expansive"
    if ranges.decays:
        return inquiry.answer(name, "proved", theorem="T1", rigor="exact", assumptions=_options(inquiry))
    if ranges.slow is not None and ranges.slow.value < 0:
        slow = ranges.slow
        witness = Drive(layer=inquiry.layer, u=slow.u, index=slow.index, quantity="pole", limit=1.0, dtype="fp64")
        if witness.replay().violated:
            return inquiry.answer(name, "refuted", theorem="T1", rigor="exact", assumptions=inquiry.assumed, witness=witness)
    return inquiry.undecided(name, ranges.reasons.get("sign", "the sign of the step is not known for every input"))


def _options(inquiry: Inquiry) -> tuple[str, ...]:
    return replace(inquiry, inputs=None).assumed


def _bounds(inquiry: Inquiry, ranges: Ranges) -> Iterator[Certificate]:
    seen = ranges.state_seen
    lower = 0.0 if seen is None else float(np.max(seen))
    for name, bound, what in (("bounded_state", ranges.state, "|h|"), ("bounded_output", ranges.output, "|y|")):
        known = {
            "rigor": "float with counted rounding",
            "assumptions": inquiry.assumed,
            "quantities": {
                f"largest {what}": magnitude(np.max(bound), lower=lower if name == "bounded_state" else 0.0),
                **ranges.quantities,
            },
            "per_channel": {"upper": bound, **({"seen": seen} if seen is not None and name == "bounded_state" else {})},
        }
        if np.all(np.isfinite(bound)):
            yield inquiry.answer(name, "proved", theorem=ranges.theorems["state"], **known)
        else:
            reason = ranges.reasons.get("state", NEEDS_INPUT if inquiry.inputs is None else "the bound overflows in double precision")
            cause = reason
            if ranges.root is not None and np.all(np.isfinite(ranges.root)):
                reason += f"; what is proved is |h| <= {float(np.max(ranges.root)):.6g} sqrt(length)"
            yield inquiry.undecided(name, reason, cause=cause, needs=_needs(inquiry, ranges, "state"), **known)


def _pole_inside(inquiry: Inquiry, ranges: Ranges, dtype: str) -> Certificate:
    """Return whether exp(-a delta) rounds to a number below 1 for every input."""
    name, slowest = f"pole_inside:{dtype}", _slowest(ranges)
    known = {
        "theorem": "pole rounding",
        "rigor": "float with counted rounding",
        "assumptions": (
            *inquiry.assumed,
            f"the step and its product with A are computed in 32 bits or more, and exp is rounded once to {dtype}",
        ),
        "quantities": {"slowest decay rate": slowest},
        "per_channel": {"proved": ranges.rate >= 4 * FORMATS[dtype].unit},
    }
    verdict = pole_range_verdict(slowest.lower, slowest.upper, dtype)
    if verdict == "proved":
        return inquiry.answer(name, "proved", **known)
    if verdict == "refuted" and ranges.slow is not None:
        slow = ranges.slow
        witness = Drive(layer=inquiry.layer, u=slow.u, index=slow.index, quantity="pole", limit=1.0, dtype=dtype)
        if witness.replay().violated:
            return inquiry.answer(name, "refuted", witness=witness, **known)
    if inquiry.inputs is None and slowest.lower <= 0:
        return inquiry.undecided(name, _rate_reason(inquiry, ranges), needs=_needs(inquiry, ranges, "rate"), **known)
    reason = f"a delta is between {slowest.lower:.3g} and {slowest.upper:.3g} at its smallest, and {dtype} tells exp(-x) from 1 for x >= "
    return inquiry.undecided(name, f"{reason}{4 * FORMATS[dtype].unit:.3g}", cause="slow poles", **known)


def _no_overflow(inquiry: Inquiry, ranges: Ranges, dtype: str) -> Certificate:
    """Return T6: |h| stays at most the largest number of the type if |tau| does, up to a few roundings."""
    name, kind = f"no_overflow:{dtype}", FORMATS[dtype]
    # three factors within 2^-10, a product rounded once, and what 32 bits add
    proved = above(ranges.state * (1 + 2 * kind.unit) * (1 + 2.0**-8), 4) <= kind.settles
    known = {
        "theorem": "T6" if ranges.convex else ranges.theorems["state"],
        "rigor": "float with counted rounding",
        "assumptions": (*inquiry.assumed, ONCE.format(dtype=dtype)),
        "quantities": {
            "largest |h|": magnitude(np.max(ranges.state), lower=0.0 if ranges.state_seen is None else np.max(ranges.state_seen))
        },
        "per_channel": {"proved": proved, "fits as defined": ranges.state <= kind.largest, "upper": ranges.state},
    }
    if not np.all(np.isfinite(ranges.state)):
        reason = ranges.reasons.get(
            "state", NEEDS_INPUT if inquiry.inputs is None else "the bound of the state overflows in double precision"
        )
        return inquiry.undecided(name, reason, needs=_needs(inquiry, ranges, "state"), **known)
    if ranges.convex and np.all(proved):
        return inquiry.answer(name, "proved", **known)
    large = ranges.large
    if large is not None and large.value >= kind.largest * (1 + 2.0**-6):
        witness = Drive(layer=inquiry.layer, u=large.u, index=large.index, quantity="state", limit=kind.largest, dtype=dtype)
        if witness.replay().violated:
            return inquiry.answer(name, "refuted", witness=witness, **known)
    if not ranges.convex:
        return inquiry.undecided(name, "the rounding of this recurrence at every step is not covered by a theorem here", **known)
    largest = f"largest {float(np.max(ranges.state)):.6g}, limit {kind.largest:.6g}"
    return inquiry.undecided(
        name,
        f"the bound of the state exceeds what T6 allows in {counted_text(~proved, 'channels')} ({largest})",
        cause="large state",
        **known,
    )
