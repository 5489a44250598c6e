"""Arithmetic that errs on one side, against exact numbers; and T6 against states that are really rounded at every step."""

from fractions import Fraction

import flint
import ml_dtypes
import mpmath
import numpy as np
import pytest

from ssm_analysis.certificates import rounding as r
from ssm_analysis.certificates.formats import FORMATS
from ssm_analysis.certificates.rounding import Interval
from ssm_analysis.certificates.slices import phi_above, softplus_above

TYPES = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16, "fp32": np.float32}


def scattered(rng, n=300):
    return rng.standard_normal(n) * 10.0 ** rng.uniform(-30, 30, n)


def inside(interval, truth):
    """Whether the rational numbers lie in the intervals."""
    return all(Fraction(lo) <= x <= Fraction(hi) for lo, hi, x in zip(interval.lo.tolist(), interval.hi.tolist(), truth, strict=True))


def test_interval_operations_enclose_rational_ones(rng):
    a, b = scattered(rng), scattered(rng)
    A, B = Interval.exact(a), Interval.exact(b)
    fa, fb = [Fraction(x) for x in a.tolist()], [Fraction(x) for x in b.tolist()]
    assert inside(A + B, [x + y for x, y in zip(fa, fb, strict=True)])
    assert inside(A - B, [x - y for x, y in zip(fa, fb, strict=True)])
    assert inside(A * B, [x * y for x, y in zip(fa, fb, strict=True)])
    assert inside(A.square(), [x * x for x in fa])
    positive = Interval.exact(np.abs(a)).over(Interval.exact(np.abs(b)))
    assert inside(positive, [abs(x) / abs(y) for x, y in zip(fa, fb, strict=True)])
    wide = Interval(np.minimum(a, b), np.maximum(a, b)) * A
    assert inside(wide, [x * y for x, y in zip(fa, fb, strict=True)])
    assert inside(wide, [x * x for x in fa])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (r.exp, mpmath.exp),
        (r.softplus, lambda x: mpmath.log1p(mpmath.exp(x))),
        (r.sigmoid, lambda x: 1 / (1 + mpmath.exp(-x))),
        (r.silu_range, lambda x: x / (1 + mpmath.exp(-x))),
    ],
)
def test_elementary_functions_enclose_those_of_mpmath(ours, theirs, rng):
    x = np.concatenate([rng.standard_normal(100) * 20, [0.0, -700.0, -800.0, 1e-300]])
    found = ours(Interval.exact(x))
    with mpmath.workdps(60):
        truth = [theirs(mpmath.mpf(v)) for v in x.tolist()]
        assert all(mpmath.mpf(lo) <= y <= mpmath.mpf(hi) for lo, hi, y in zip(found.lo.tolist(), found.hi.tolist(), truth, strict=True))
    large = np.abs(x) < 30
    assert np.all((found.hi - found.lo)[large] <= 1.2e-15 * np.abs(found.hi[large]) + 1e-320)


def test_softplus_of_infinities():
    found = r.softplus(Interval(np.array([-np.inf]), np.array([np.inf])))
    assert found.lo[0] == 0.0
    assert found.hi[0] == np.inf


def test_the_minimum_of_silu():
    with flint.ctx.workprec(120):
        w = flint.arb(-1).exp().lambertw()  # W(1/e)
        assert w < flint.arb(r.SILU_DEPTH)
        assert w > flint.arb(r.SILU_DEPTH - 2e-16)
        assert flint.arb(r.SILU_TURN[0]) < -1 - w < flint.arb(r.SILU_TURN[1])


def test_silu_over_intervals_and_half_lines(rng):
    for low, width in zip(rng.uniform(-6, 4, 200), rng.uniform(0, 5, 200), strict=True):
        x = np.linspace(low, low + width, 400)
        y = x / (1 + np.exp(-x))
        found = r.silu_range(Interval(np.array([low]), np.array([low + width])))
        assert found.lo[0] <= np.min(y) + 1e-15
        assert np.max(y) - 1e-15 <= found.hi[0]
        left = np.concatenate([x, np.linspace(-60, low, 400)])
        assert r.silu_size(np.array([low + width]))[0] >= np.max(np.abs(left / (1 + np.exp(-left)))) - 1e-15
        assert r.silu_remainder(np.array([abs(low)]))[0] >= low / 2 * np.tanh(low / 2) - 1e-15


def test_bounds_of_phi_and_softplus_are_above_and_near(rng):
    a, delta = 10.0 ** rng.uniform(-6, 3, 3000), 10.0 ** rng.uniform(-8, 3, 3000)
    truth = -delta / np.expm1(-a * delta)
    found = phi_above(Interval.exact(a), delta)
    assert np.all(found >= truth * (1 - 1e-14))
    assert np.all(found <= truth * 1.05)
    x = rng.uniform(-60, 80, 3000)
    assert np.all(softplus_above(x) >= np.logaddexp(x, 0) * (1 - 1e-14))
    assert np.all(softplus_above(x)[x > -40] <= np.logaddexp(x, 0)[x > -40] * 1.001)


@pytest.mark.parametrize("n", [1, 5, 80, 200])
def test_largest_eigenvalue_is_a_bound(n, rng):
    M = rng.standard_normal((n, n // 2 + 1))
    G = M @ M.T
    truth = np.linalg.eigvalsh(G)[-1]
    found = r.largest_eigenvalue(G, 0.0)
    assert truth * (1 - 1e-13) <= found <= truth * (1 + 1e-3)
    assert r.largest_eigenvalue(0 * G, 0.25) >= 0.25


def test_sums_and_products_stay_below_their_inflated_value(rng):
    for n in (3, 50, 700):
        x, y = np.abs(scattered(rng, n)) ** 0.1, np.abs(scattered(rng, n)) ** 0.1
        truth = sum(Fraction(a) * Fraction(b) for a, b in zip(x.tolist(), y.tolist(), strict=True))
        assert Fraction(float(r.above(x @ y, n + 2))) >= truth


# --- T6


def executed(kind, rate, push, start, length):
    """h <- fl(fl(lambda h) + x), all in the type, from a state ``start``; the largest |h|."""
    pole, x, h = np.exp(-rate).astype(kind), push.astype(kind), start.astype(kind)
    largest = np.abs(h.astype(np.float64))
    for _ in range(length):
        h = ((pole * h).astype(kind) + x).astype(kind)
        largest = np.maximum(largest, np.abs(h.astype(np.float64)))
    return largest


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_states_rounded_at_every_step_stay_finite_under_the_conditions_of_t6(dtype, rng):
    kind, info = TYPES[dtype], FORMATS[dtype]
    rate = 10.0 ** rng.uniform(-7, 2, 20_000)
    assert np.mean(np.exp(-rate).astype(kind) == 1) > 0.2  # where the decay is lost altogether
    push = info.settles / (1 + 2 * info.unit) * -np.expm1(-rate)
    for start in (np.zeros(20_000), np.full(20_000, info.largest)):
        assert np.all(executed(kind, rate, push, start, 300) <= info.largest)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_every_pole_of_a_type_keeps_the_largest_state_under_the_conditions_of_t6(dtype):
    """One step from the largest number for poles at both ends of what rounds to 1 - k u, all k that are possible."""
    kind, info = TYPES[dtype], FORMATS[dtype]
    k = np.arange(0, int(0.5 / info.unit))
    for shift in (-0.4999, 0.0, 0.4999):
        gap = np.maximum((k + shift) * info.unit, 0.0)
        push = (info.settles * gap).astype(kind)
        state = np.full(len(k), info.largest).astype(kind)
        after = (((1 - gap).astype(kind) * state).astype(kind) + push).astype(kind)
        assert np.all(after.astype(np.float64) <= info.largest)


def test_a_state_that_settles_above_the_largest_number_overflows():
    rate = np.array([0.05, 1.0])
    with np.errstate(over="ignore"):
        assert np.all(executed(np.float16, rate, 1.05 * 65504 * -np.expm1(-rate), np.zeros(2), 400) == np.inf)


@pytest.mark.parametrize("dtype", sorted(TYPES))
def test_where_exp_rounds_to_one(dtype, rng):
    kind, unit = TYPES[dtype], FORMATS[dtype].unit
    x = unit * np.concatenate([rng.uniform(0, 0.499, 100), rng.uniform(4, 100, 100)])
    poles = np.exp(-x).astype(kind).astype(np.float64)
    np.testing.assert_array_equal(poles == 1, x < unit / 2)
