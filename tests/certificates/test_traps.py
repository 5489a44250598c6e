"""Poles a hair from a rounding tie, numbers that overflow, and other questions on which `verify` once stumbled."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch

from ssm_analysis import FAMILIES, DiagonalSSM, StateSpace, verify
from ssm_analysis.certificates.witness import rounded_once, rounded_type

ONE = np.ones((1, 1))


def one_mode(mu):
    return DiagonalSSM(log_poles=np.array([mu]), B=ONE, C=ONE, D=ONE)


def of(found, property):
    (certificate,) = [c for c in found if c.property == property]
    return certificate


@pytest.mark.parametrize(
    ("mu", "dtype"),
    [
        (-5e-17 + 0.634156785828209j, "fp32"),
        (-5e-17 + 0.7671985751495005j, "fp32"),
        (-2.980232284566232e-08, "fp32"),
        (float(np.log1p(-(2**-9 + 2**-40))), "bf16"),
    ],
)
def test_a_pole_is_rounded_once(mu, dtype):
    """To the type itself, not to 64 bits on the way: near a tie that decides."""
    with mpmath.workdps(60):
        pole = mpmath.exp(mpmath.mpmathify(mu))
        parts = [Fraction(*map(int, mpmath.libmp.to_rational(part._mpf_))) for part in (pole.real, pole.imag)]
    excess = sum(rounded_once(part, dtype) ** 2 for part in parts) - 1
    certificate = of(verify(one_mode(mu), dtypes=[dtype]), f"pole_inside:{dtype}")
    assert certificate.verdict == ("proved" if excess < 0 else "refuted")
    assert excess < 0 or certificate.witness.replay().violated


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_rounding_once_is_that_of_numpy(dtype):
    rng = np.random.default_rng(0)
    for x in [*rng.standard_normal(50), *np.exp(rng.uniform(-100, 10, 50)), 1 + 2.0**-24, 1 - 2.0**-25, 0.0, 1.5e-45]:
        assert float(rounded_once(Fraction(float(x)), dtype)) == float(rounded_type(dtype)(x))


def test_ties_go_to_even_and_near_ties_to_the_nearer():
    half = Fraction(1) + Fraction(2) ** -8
    assert rounded_once(half, "bf16") == 1
    assert rounded_once(half + Fraction(2) ** -40, "bf16") == Fraction(1) + Fraction(2) ** -7


def test_a_gain_of_several_inputs_is_refuted_by_a_frequency():
    sys = StateSpace(A=np.array([[0.5, 0.1], [0.2, 0.3]]), B=np.eye(2), C=np.eye(2), D=np.zeros((2, 2)))
    certificate = of(verify(sys, hinf_below=1e-3), "hinf_below")
    assert certificate.verdict == "refuted"
    replay = certificate.witness.replay()
    assert replay.violated
    np.testing.assert_allclose(replay.measured, np.linalg.norm(np.linalg.inv(np.eye(2) - sys.A), 2), rtol=1e-6)


@pytest.mark.parametrize(("family", "name", "value"), [("lru", "nu_log", 800.0), ("s4d", "A_real", 800.0), ("s6", "A_log", 720.0)])
def test_numbers_beyond_double_precision_are_undecided_and_disturb_no_other_layer(family, name, value):
    layer = FAMILIES[family].init(d_model=2)
    p = {key: np.array(x) for key, x in layer.params.items()}
    p[name].flat[0] = value
    found = verify({f"{side}.{key}": x for side, params in (("a", p), ("b", layer.params)) for key, x in params.items()})
    assert {c.verdict for c in found["a"]} <= {"proved", "undecided"}
    assert of(found["b"], "asymptotic_stability").verdict in ("proved", "undecided")
    assert len(found["a"]) == len(found["b"])


def test_an_empty_batch_is_an_error():
    empty = DiagonalSSM(log_poles=np.zeros((0, 2)) - 1, B=np.zeros((0, 2, 1)), C=np.zeros((0, 1, 2)), D=np.zeros((0, 1, 1)))
    with pytest.raises(ValueError, match=r"at least one system, got an empty batch of shape \(0,\)"):
        verify(empty)


def test_bfloat16_is_lifted_first():
    half = DiagonalSSM(
        log_poles=torch.tensor([-0.1, -0.2]).bfloat16(), B=torch.ones(2, 1).bfloat16(), C=torch.ones(1, 2).bfloat16(),
        D=torch.zeros(1, 1).bfloat16(),
    )  # fmt: skip
    assert of(verify(half), "asymptotic_stability").verdict == "proved"


def test_a_stretch_beyond_double_precision_replays():
    sys = StateSpace(A=np.array([[0.5, 1e155], [0, 0.5]]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=ONE)
    found = verify(sys)
    assert of(found, "asymptotic_stability").verdict == "proved"
    assert of(found, "non_expansive").witness.replay().violated
