"""Bounds of the peak gain that must hold, whatever the system."""

import itertools
import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssm_analysis import DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.analyses.norms import arc_enclosures, certified_hinf
from ssm_analysis.analyses.norms.arc_enclosures import Enclosure, dense_arcs, matrix_arcs, proved_stable, scalar_arcs
from ssm_analysis.analyses.norms.system_norms import hinf_bounds, hinf_norm
from ssm_analysis.analyses.responses.gains import all_modes, gain
from tests.support.non_normal import legs
from tests.support.systems_table import STABLE, UNSTABLE, in_torch


def random_system(rng, kind, n, m, p, *, batch=2):
    """Damping from 1e-7 to 0.5, residues with or without the factor of the damping, angles of several turns."""
    damping = 10 ** rng.uniform(-7, -0.3, (batch, n))
    angle = rng.uniform(-np.pi, np.pi, (batch, n)) * rng.choice([0.02, 1]) + 2 * np.pi * rng.integers(-2, 3, (batch, n)) * rng.integers(2)

    def normal(*shape):
        return rng.normal(size=(batch, *shape)) + 1j * rng.normal(size=(batch, *shape))

    B, C, D = normal(n, m) * (damping ** rng.choice([0, 0.5, 1]))[..., None], normal(p, n), normal(p, m) * rng.choice([0, 1, 10])
    mu = np.log1p(-damping) + 1j * angle
    if kind == "complex":
        return DiagonalSSM(log_poles=mu, B=B, C=C, D=D)
    if kind == "realpart":
        return RealDiagonalSSM(log_poles=mu, B=B, C=C, D=D.real)
    return DiagonalSSM(log_poles=mu.real, B=B.real, C=C.real, D=D.real)


def sampled(sys, rng, count=600):
    """The largest gain at angles near poles and anywhere."""
    whole = all_modes(sys)
    mu = whole.log_poles + 0j
    near = mu.imag[..., None] + mu.real[..., None] * np.concatenate([-np.geomspace(0.03, 10, 6), [0], np.geomspace(0.03, 10, 6)])
    theta = np.concatenate([near.reshape(len(mu), -1), rng.uniform(-np.pi, np.pi, (len(mu), count))], axis=-1)
    return np.max(gain(whole, theta), axis=-1)


@given(
    st.sampled_from(["complex", "realpart", "real"]),
    st.integers(1, 30),
    st.sampled_from([(1, 1), (1, 1), (2, 3), (3, 1)]),
    st.integers(0, 10**6),
)
def test_no_sample_exceeds_the_upper_bound(kind, n, size, seed):
    rng = np.random.default_rng(seed)
    sys = random_system(rng, kind, n, *size)
    bounds = hinf_bounds(sys)
    highest = np.maximum(sampled(sys, rng), hinf_norm(sys))
    assert np.all(highest <= bounds.upper)
    assert np.all(bounds.upper <= bounds.lower * (1 + 1.01e-6))
    assert np.all(bounds.lower <= hinf_norm(sys) * (1 + 1e-3))  # a peak missed by the search is low and small


@pytest.mark.parametrize("name", STABLE)
def test_width(name):
    bounds, peak = hinf_bounds(STABLE[name], rtol=1e-8), hinf_norm(STABLE[name])
    assert bounds.lower.shape == STABLE[name].batch_shape
    rounding = 1e-5 if "light" in name else 1e-10
    assert np.all(bounds.lower <= peak * (1 + 1e-12))
    assert np.all(peak <= bounds.upper)
    assert np.all(bounds.upper - bounds.lower <= peak * (1e-8 + rounding))


@pytest.mark.parametrize("name", ["complex_siso", "realpart_mimo", "dense_mimo", "complex_batch"])
def test_library_of_the_system(name):
    found, expected = hinf_bounds(in_torch(STABLE[name])), hinf_bounds(STABLE[name])
    assert isinstance(found.upper, torch.Tensor)
    np.testing.assert_allclose(found.lower.numpy(), expected.lower, rtol=1e-12)
    np.testing.assert_allclose(found.upper.numpy(), expected.upper, rtol=1e-6)


@pytest.mark.parametrize("name", UNSTABLE)
def test_unstable_systems_are_infinitely_bad(name):
    bounds = hinf_bounds(UNSTABLE[name])
    assert np.isposinf(np.ravel(bounds.lower)[-1])
    np.testing.assert_array_equal(np.isposinf(bounds.lower), np.isposinf(bounds.upper))


@pytest.mark.parametrize("turns", [0, 5])
@pytest.mark.parametrize("damping", [1e-3, 1e-9, 1e-13])
def test_rounding_is_within_the_bounds(damping, turns):
    """The true gain at the poles, with 60 digits, where 16 leave few: angles of many turns are rounded most."""
    mu = np.array([-damping + 1.2j + 2j * np.pi * turns, -0.5 * damping - 2.25j - 2j * np.pi * turns, -0.3 + 1j])
    C = np.array([[1.0, 0.3 + 1j, 5.0]])
    sys = DiagonalSSM(log_poles=mu, B=np.ones((3, 1)), C=C, D=np.ones((1, 1)))
    bounds = hinf_bounds(sys)
    with mpmath.workdps(60):
        highest = 0
        for pole in mu:
            z = mpmath.expj(mpmath.mpf(pole.imag))
            G = 1 + sum(mpmath.mpc(c) / (z - mpmath.exp(mpmath.mpc(m))) for c, m in zip(C[0], mu, strict=True))
            highest = max(highest, abs(G))
        assert highest <= mpmath.mpf(float(bounds.upper))
        assert mpmath.mpf(float(bounds.lower)) <= highest * (1 + damping)
    assert bounds.upper <= bounds.lower * (1 + 1e-6 + 1e-14 * turns / damping)


@pytest.mark.parametrize("delta", [1e-3, 1e-1])
@pytest.mark.parametrize("n", [16, 64])
def test_hippo(n, delta, rng):
    sys = legs(n, delta, rng, turned=True)
    bounds = hinf_bounds(sys, rtol=1e-5)
    assert bounds.lower <= hinf_norm(sys) * (1 + 1e-12)
    assert hinf_norm(sys) <= bounds.upper <= bounds.lower * (1 + 1.01e-5)


@given(st.sampled_from(["scalar", "matrix", "dense"]), st.integers(1, 8), st.integers(0, 10**6))
def test_each_arc_holds_what_it_promises(kind, n, seed):
    rng = np.random.default_rng(seed)
    m, p = (1, 1) if kind == "scalar" else (2, 3)
    sys = random_system(rng, "complex", n, m, p)
    sys = replace(sys, log_poles=sys.log_poles.real + 1j * np.remainder(sys.log_poles.imag, 2 * np.pi))
    if kind == "dense":
        A = rng.normal(size=(2, n, n))
        A = A * (rng.uniform(0.5, 0.999) / np.max(np.abs(np.linalg.eigvals(A)), axis=-1))[:, None, None]
        sys = StateSpace(A=A, B=sys.B, C=sys.C, D=sys.D)
    enclose = {"scalar": scalar_arcs, "matrix": matrix_arcs, "dense": dense_arcs}[kind](**{f: getattr(sys, f) for f in sys.AXES})
    owner = np.repeat([0, 1], 12)
    center, half = rng.uniform(-np.pi, np.pi, 24), 10 ** rng.uniform(-9, 0, 24)
    if kind != "dense":
        pole = rng.integers(n, size=24)
        center = np.where(rng.random(24) < 0.7, sys.log_poles.imag[owner, pole] + rng.normal(size=24) * half, center)
    for goal in (0.0, np.inf, 10.0):
        found = enclose(owner, center, half, np.full(24, goal))
        for i in range(24):
            theta = center[i] + half[i] * np.linspace(-1, 1, 17) * (
                1 - 2.0**-20
            )  # an angle near pi rounds by 2^-51, half a width is >= 1e-9
            there = gain(sys[int(owner[i])], theta)
            assert np.max(there) <= found.high[i] * (1 + 1e-13)
            assert found.low[i] <= there[8] * (1 + 1e-13)


def test_arcs_share_the_circle_without_gaps():
    """Every angle, pi and the doubles next to it included, lies on a first arc."""
    arcs = []

    def spy(owner, center, half, goal):
        arcs.extend(zip(center - half, center + half, strict=True))
        zeros = np.zeros(len(owner))
        return Enclosure(zeros, zeros, zeros > 0)

    certified_hinf._branch_and_bound(spy, np.ones(1), rtol=1e-6, half=False)
    assert len(arcs) == certified_hinf.ARCS
    arcs.sort()
    assert arcs[0][0] <= -math.nextafter(math.pi, 4)
    assert arcs[-1][1] >= math.nextafter(math.pi, 4)
    assert all(right >= left for (_, right), (left, _) in itertools.pairwise(arcs))


def test_a_spent_budget_leaves_true_bounds(monkeypatch, rng):
    monkeypatch.setattr(certified_hinf, "BUDGET", 200)
    sys = random_system(rng, "realpart", 20, 1, 1)
    bounds = hinf_bounds(sys, rtol=1e-12)
    assert np.all(np.maximum(sampled(sys, rng), hinf_norm(sys)) <= bounds.upper)


def test_without_a_proof_of_stability_there_is_no_upper_bound(monkeypatch):
    monkeypatch.setattr(certified_hinf, "proved_stable", lambda A: False)
    bounds = hinf_bounds(STABLE["dense_siso"])
    assert np.isposinf(bounds.upper)
    assert np.isfinite(bounds.lower)
    assert np.isfinite(hinf_bounds(STABLE["complex_siso"]).upper)


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("n", [1, 5, 40])
@pytest.mark.parametrize("margin", [1e-1, 1e-4, 1e-6])
def test_stability_is_proved(n, margin, complex_, rng):
    A = rng.normal(size=(n, n)) + (1j * rng.normal(size=(n, n)) if complex_ else 0)
    assert proved_stable(A * ((1 - margin) / np.max(np.abs(np.linalg.eigvals(A)))))


@pytest.mark.parametrize("margin", [3e-16, 1e-15])
def test_stability_is_not_proved_where_rounding_decides(margin, rng, monkeypatch):
    """The powers of the computed A seem to decay, or do not; a proof it is not."""
    Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    A = Q @ np.diag([1 - margin, 0.5, 0.5, 0.2, 0.1, 0.0]) @ Q.T
    monkeypatch.setattr(arc_enclosures, "solve_stein", lambda A, R: Q @ np.diag(1 / (1 - np.diag(Q.T @ A @ Q) ** 2)) @ Q.T)
    assert not proved_stable(A)


@pytest.mark.parametrize("rtol", [0.0, -1e-3, math.nan])
def test_rtol(rtol):
    with pytest.raises(ValueError, match=r"rtol must be a positive number, the relative distance of the two bounds, got"):
        hinf_bounds(STABLE["complex_siso"], rtol=rtol)


def test_empty_batch():
    assert hinf_bounds(STABLE["complex_siso"][None][:0]).upper.shape == (0,)
    assert hinf_bounds(STABLE["dense_siso"][None][:0]).upper.shape == (0,)
