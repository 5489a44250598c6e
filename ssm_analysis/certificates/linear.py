"""Time-invariant diagonal layers and systems: stability, bounds, and the same as executed."""

import math
from collections.abc import Iterator

import numpy as np

from ssm_analysis.certificates.certificate import INPUT_BOUND, Certificate, Quantity
from ssm_analysis.certificates.formats import FORMATS, rounded_modulus_below_one
from ssm_analysis.certificates.question import Inquiry, counted_text, first_index, magnitude
from ssm_analysis.certificates.rounding import Interval, above, ends
from ssm_analysis.certificates.sign_tests import Decay
from ssm_analysis.certificates.witness import UnstableMode
from ssm_analysis.systems import DiagonalSSM, RealDiagonalSSM
from ssm_analysis.xp import double, to_numpy

OF_SYSTEM = "B, C and D are those of the exported system, in 64 bits"


def diagonal_answers(inquiry: Inquiry, sys: DiagonalSSM | RealDiagonalSSM, decay: Decay) -> Iterator[Certificate]:
    """Yield all properties of a diagonal system but the two gains."""
    sys = sys.map(lambda x: to_numpy(double(x)))
    yield from _stability(inquiry, decay)
    if np.all(decay.sign < 0):
        yield from _bounds(inquiry, sys, decay)
    else:
        yield from _unbounded(inquiry, sys, decay)
    for dtype in inquiry.dtypes:
        yield _pole_inside(inquiry, sys, decay, dtype)


def slowest(decay: Decay) -> Quantity:
    """Return the smallest decay rate, per token."""
    return Quantity(lower=float(np.min(decay.rate.lo)), upper=float(np.min(decay.rate.hi)), unit="per token")


def _stability(inquiry: Inquiry, decay: Decay) -> Iterator[Certificate]:
    known = {
        "theorem": decay.theorem,
        "rigor": "exact",
        "assumptions": inquiry.assumed,
        "quantities": {"slowest decay rate": slowest(decay)},
        "per_channel": {"proved": np.all(decay.sign < 0, axis=-1), "slowest rate": np.min(decay.rate.lo, axis=-1)},
    }
    for name, bad in (
        ("asymptotic_stability", decay.sign >= 0),
        ("uniform_exponential_stability", decay.sign >= 0),
        ("non_expansive", decay.sign > 0),
    ):
        if bad.any():
            yield inquiry.answer(name, "refuted", witness=_mode(decay, bad), **known)
        else:
            yield inquiry.answer(name, "proved", **known)


def _mode(decay: Decay, bad: np.ndarray) -> UnstableMode:
    index = first_index(bad)
    factors = tuple(float(np.broadcast_to(f, decay.sign.shape)[index]) for f in decay.factors)
    return UnstableMode(index=index, factors=factors, formula=decay.formula)


def _input_sizes(inquiry: Inquiry, B: np.ndarray) -> tuple[np.ndarray, str]:
    """Return sup |b_i u| for each mode, (*batch, n), and the unit of what follows from it."""
    n = B.shape[-1]
    inputs = inquiry.inputs
    if inputs is None:
        return above(np.sqrt(np.sum(np.abs(B) ** 2, axis=-1)), 2 * n + 8), "per unit of input (2-norm over the inputs, at every token)"
    if n == 1:  # one channel for each system of the batch
        size = above(np.abs(inputs.weight) * inputs.radius + np.abs(inputs.bias), 4)
        return above(np.abs(B[..., 0]) * size[:, None], 8), "in units of the state"
    linear = np.sqrt(np.sum(np.abs(B * inputs.weight) ** 2, axis=-1)) * inputs.radius
    return above(linear + np.abs(B) @ np.abs(inputs.bias), 4 * n + 16), "in units of the state"


def state_bounds(inquiry: Inquiry, B: np.ndarray, margin: np.ndarray) -> tuple[np.ndarray, str]:
    """Return sup |b_i u| / (1 - |lambda_i|)."""
    size, unit = _input_sizes(inquiry, B)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(size == 0, 0.0, above(size / margin, 4)), unit


def pole_margin(rate: Interval) -> np.ndarray:
    """Return a lower bound of 1 - |lambda| = 1 - exp(-r), in balls."""
    return np.maximum(ends(lambda r: -(-r).expm1(), np.maximum(rate.lo, 0.0))[0], 0.0)


def _bounds(inquiry: Inquiry, sys: DiagonalSSM | RealDiagonalSSM, decay: Decay) -> Iterator[Certificate]:
    margin = np.broadcast_to(pole_margin(decay.rate), sys.B.shape[:-1])
    state, unit = state_bounds(inquiry, sys.B, margin)
    n = sys.nstates
    through = _through(inquiry, sys.D)
    output = above(np.sum(np.abs(sys.C) * state[..., None, :], axis=-1) + through, 2 * n + 16)
    known = {"theorem": "BIBO", "rigor": "float with counted rounding", "assumptions": (*inquiry.assumed, OF_SYSTEM)}
    for name, bound, axis in (("bounded_state", state, "|x|"), ("bounded_output", output, "|y|")):
        largest = np.max(bound, axis=-1)
        quantities = {f"largest {axis}": magnitude(np.max(largest), unit=unit)}
        if np.all(np.isfinite(largest)):
            yield inquiry.answer(name, "proved", quantities=quantities, per_channel={"upper": largest}, **known)
        else:
            reason = "the bound overflows in double precision: the decay rate is positive but too small for its inverse to be a double"
            yield inquiry.undecided(name, reason, per_channel={"upper": largest}, **known)
    for dtype in inquiry.dtypes:
        yield _no_overflow(inquiry, sys, decay, dtype)


def _through(inquiry: Inquiry, D: np.ndarray) -> np.ndarray:
    """Return sup |D u|, (*batch, p)."""
    return _input_sizes(inquiry, D)[0]


def _unbounded(inquiry: Inquiry, sys: DiagonalSSM | RealDiagonalSSM, decay: Decay) -> Iterator[Certificate]:
    """Yield a mode that does not decay and is driven has an unbounded state, and an unbounded output if no other mode can cancel it."""
    bad = np.broadcast_to(decay.sign >= 0, sys.B.shape[:-1])
    driven = bad & np.any(sys.B != 0, axis=-1)
    mu = np.broadcast_to(sys.log_poles, driven.shape)
    seen = driven & np.any(sys.C != 0, axis=-2) & _alone(mu)
    if isinstance(sys, RealDiagonalSSM):
        seen &= np.imag(mu) != 0  # of a real mode only the real part of c b is seen
        real_part = np.any(np.real(sys.C[..., :, None, :] * np.moveaxis(sys.B, -1, -2)[..., None, :, :]) != 0, axis=(-3, -2))
        seen |= driven & np.any(sys.C != 0, axis=-2) & _alone(mu) & real_part
    known = {"theorem": decay.theorem, "rigor": "exact", "assumptions": (*inquiry.assumed, OF_SYSTEM)}
    decay = Decay(
        sign=bad.astype(int), rate=decay.rate, factors=tuple(np.broadcast_to(f, bad.shape) for f in decay.factors), formula=decay.formula
    )
    for name, mask, lacks in (
        ("bounded_state", driven, "is driven"),
        ("bounded_output", seen, "is driven, seen and apart from all others"),
    ):
        if mask.any():
            yield inquiry.answer(name, "refuted", witness=_mode(decay, mask), **known)
        else:
            yield inquiry.undecided(
                name, f"{counted_text(bad, 'modes')} do not decay, but none of them {lacks}", cause=f"modes: none {lacks}", **known
            )
    for dtype in inquiry.dtypes:
        yield inquiry.undecided(f"no_overflow:{dtype}", "the system is not stable, so no bound of its state holds for all times")


def _alone(mu: np.ndarray) -> np.ndarray:
    """Return whether no other mode of the system has the same log-pole, or its conjugate, modulo 2 pi i (a generous neighborhood
    counts)."""
    poles = np.exp(mu)[..., None]
    others = np.swapaxes(poles, -1, -2)
    near = (np.abs(poles - others) <= 1e-12 * np.abs(poles)) | (np.abs(poles - np.conj(others)) <= 1e-12 * np.abs(poles))
    near &= ~np.eye(mu.shape[-1], dtype=bool)
    return ~np.any(near, axis=-1)


def _pole_inside(inquiry: Inquiry, sys: DiagonalSSM | RealDiagonalSSM, decay: Decay, dtype: str) -> Certificate:
    """Return whether lambda, its two parts rounded to the type, lies inside the circle."""
    inside, decided, bits = rounded_modulus_below_one(decay, np.broadcast_to(sys.log_poles, decay.sign.shape), dtype)
    known = {
        "theorem": "pole rounding",
        "rigor": "interval",
        "assumptions": (*inquiry.assumed, f"the pole is rounded once to {dtype}, real and imaginary part apart"),
        "per_channel": {"proved": np.all(inside, axis=-1)},
    }
    name = f"pole_inside:{dtype}"
    if inside.all():
        return inquiry.answer(name, "proved", quantities={"slowest decay rate": slowest(decay)}, **known)
    bad = decided & ~inside
    if bad.any():
        return inquiry.answer(name, "refuted", quantities={"slowest decay rate": slowest(decay)}, witness=bits(first_index(bad)), **known)
    return inquiry.undecided(
        name,
        f"{counted_text(~inside, 'poles')} round to a number on the circle within the accuracy of their angle",
        cause="angle of poles",
        **known,
    )


def _no_overflow(inquiry: Inquiry, sys: DiagonalSSM | RealDiagonalSSM, decay: Decay, dtype: str) -> Certificate:
    """Return |fl(fl(lambda h) + x)| <= (|lambda| (1 + 8 u) H + |x| (1 + 8 u)) for complex products in any common order."""
    name, unit_roundoff, largest = f"no_overflow:{dtype}", FORMATS[dtype].unit, FORMATS[dtype].largest
    if inquiry.inputs is None:
        return inquiry.undecided(name, "nothing bounds the input: give norm= or input_radius=", needs=frozenset({INPUT_BOUND}))
    margin = np.broadcast_to(pole_margin(decay.rate), sys.B.shape[:-1]) - 8 * unit_roundoff
    safe = margin > 0
    size, unit = state_bounds(inquiry, sys.B, np.where(safe, margin, 1.0))
    bound = np.where(safe, above(size * (1 + 10 * unit_roundoff), 4), math.inf)
    top = np.max(bound, axis=-1)
    known = {
        "theorem": "BIBO",
        "rigor": "float with counted rounding",
        "assumptions": (*inquiry.assumed, OF_SYSTEM, f"the state is rounded to {dtype} at every step of a sequential scan"),
        "per_channel": {"upper": top, "proved": top < largest},
    }
    quantities = {"largest |x|": magnitude(np.max(top), unit=unit)}
    if np.all(top < largest):
        return inquiry.answer(name, "proved", quantities=quantities, **known)
    reason = f"the bound exceeds {largest:.6g} in {counted_text(top >= largest, 'systems')}"
    if not safe.all():
        reason += f"; {counted_text(~safe, 'modes')} decay by less than rounding to {dtype} can add"
    return inquiry.undecided(name, reason, cause="large state" if safe.all() else "slow modes", quantities=quantities, **known)
