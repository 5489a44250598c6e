"""Penalties against their definitions, and their gradients against finite differences, also where nothing is left to penalize."""

from dataclasses import replace

import control
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssm_analysis import DiagonalSSM, RealDiagonalSSM, StateSpace, frequency_response, poles, simulate
from ssm_analysis.analyses.norms.losses import h2_norm_squared, hankel_nuclear_norm, margin_penalty, modal_l1
from ssm_analysis.analyses.responses.time import markov_parameters
from tests.support.equivalent_systems import (
    DIFFERENTIABLE,
    gradients_are_right,
    in_single,
    in_strict,
    lifted,
    side_by_side,
    transposed,
    twins,
)
from tests.support.systems_table import INVARIANT, STABLE, TIME_VARYING, UNSTABLE, in_torch

ONE = np.ones((1, 1))
SIMPLE = [name for name in STABLE if "light_damping" not in name]
SMOOTH = [name for name in DIFFERENTIABLE if name != "realpart_real_modes"]
HANKEL = ["complex_siso", "complex_mimo", "complex_repeated", "realpart_siso", "realpart_real_modes", "dense_siso", "dense_jordan"]


def penalty(sys):
    return margin_penalty(sys, margin=0.3)


PENALTIES = [h2_norm_squared, hankel_nuclear_norm, modal_l1, penalty]


# definitions


@pytest.mark.parametrize("name", SIMPLE)
def test_h2_is_the_energy_of_the_kernel_and_the_variance_of_filtered_noise(name):
    sys = STABLE[name]
    energy = np.sum(np.abs(markov_parameters(sys, 3000)) ** 2, axis=(-3, -2, -1))
    np.testing.assert_allclose(h2_norm_squared(sys), energy, rtol=1e-11)
    omega = np.linspace(-np.pi, np.pi, 4096, endpoint=False) / sys.dt  # Parseval
    np.testing.assert_allclose(np.mean(np.sum(np.abs(frequency_response(sys, omega)) ** 2, axis=(-2, -1)), axis=-1), energy, rtol=1e-10)


def test_h2_of_white_noise():
    sys = STABLE["realpart_siso"]
    y = simulate(sys, np.random.default_rng(3).normal(size=(200_000, 1)))[1000:]
    np.testing.assert_allclose(np.var(y), h2_norm_squared(sys), rtol=0.03)


@pytest.mark.parametrize("name", ["realpart_siso", "dense_mimo", "complex_pairs"])
def test_h2_is_python_controls(name):
    np.testing.assert_allclose(h2_norm_squared(STABLE[name]), control.norm(STABLE[name].to_control(), 2) ** 2, rtol=1e-10)


@pytest.mark.parametrize("name", HANKEL)
def test_the_nuclear_norm_of_the_hankel_matrix(name):
    """Of C A^(i+j) B, i, j < 200: what maps past inputs to future outputs."""
    K = markov_parameters(STABLE[name], 400)
    matrix = np.block([[K[i + j + 1] for j in range(200)] for i in range(200)])
    np.testing.assert_allclose(hankel_nuclear_norm(STABLE[name]), np.linalg.norm(matrix, "nuc"), rtol=1e-9)


@given(st.floats(-3, -1e-6), st.floats(-3, 3), st.floats(0.1, 10))
def test_the_nuclear_norm_of_one_mode(decay, angle, c):
    sys = DiagonalSSM(log_poles=np.array([complex(decay, angle)]), B=2 * ONE + 0j, C=1j * c * ONE, D=5 * ONE + 0j)
    np.testing.assert_allclose(hankel_nuclear_norm(sys), 2 * c / -np.expm1(2 * decay), rtol=1e-13)


@pytest.mark.parametrize("name", list(INVARIANT) + list(TIME_VARYING))
def test_penalties_on_poles_are_their_definitions(name):
    sys = (INVARIANT | TIME_VARYING)[name]
    size = np.abs(poles(sys))
    np.testing.assert_allclose(modal_l1(sys), np.sum(size, axis=-1), rtol=1e-13)
    np.testing.assert_allclose(penalty(sys), np.sum(np.maximum(0, 0.3 - (1 - size)) ** 2, axis=-1), rtol=1e-12, atol=1e-30)


def test_a_margin_is_not_lost_to_rounding():
    """1 - |lambda| = 1e-10 wanted, 4e-11 kept."""
    sys = DiagonalSSM(log_poles=np.array([-4e-11 + 1j, -0.1]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=ONE)
    np.testing.assert_allclose(margin_penalty(sys, margin=1e-10), 6e-11**2, rtol=1e-9)
    assert margin_penalty(sys, margin=3.9e-11) == 0


# laws


@pytest.mark.parametrize("f", PENALTIES)
@pytest.mark.parametrize("name", SIMPLE)
def test_how_the_states_are_written_does_not_matter(name, f):
    sys = STABLE[name]
    for how, twin in twins(sys).items():
        if f in (modal_l1, penalty) and isinstance(sys, RealDiagonalSSM) and how != "scaled" and how != "permuted":
            continue  # each stored mode counts once
        defective = ("jordan" in name or "shift" in name) and f in (modal_l1, penalty)  # eigenvalues to eps^(1/4)
        np.testing.assert_allclose(f(twin), f(sys), rtol=1e-3 if defective else 1e-10, atol=1e-4 if defective else 1e-12, err_msg=how)


@pytest.mark.parametrize("f", PENALTIES)
@pytest.mark.parametrize("name", list(STABLE))
def test_libraries_agree(name, f):
    sys = STABLE[name]
    want, found = f(sys), f(in_torch(sys))
    assert want.shape == sys.batch_shape
    assert isinstance(found, torch.Tensor)
    rtol = 1e-3 if "jordan" in name else 1e-6 if "light" in name else 1e-11
    np.testing.assert_allclose(found.numpy(), want, rtol=rtol, atol=1e-13)
    if (f is not modal_l1 and f is not penalty) or not isinstance(sys, StateSpace):  # eigenvalues are not in the standard yet
        np.testing.assert_allclose(np.asarray(f(in_strict(sys))), want, rtol=rtol, atol=1e-13)


@pytest.mark.parametrize("f", PENALTIES)
@pytest.mark.parametrize("name", ["complex_mimo", "diagonal_real_siso", "realpart_siso", "dense_mimo"])
def test_32_bits_are_lifted_first(name, f):
    single = in_single(STABLE[name])
    np.testing.assert_array_equal(f(single), f(lifted(single)))


@pytest.mark.parametrize("f", PENALTIES)
@pytest.mark.parametrize("name", [name for name in STABLE if STABLE[name].batch_shape])
def test_a_batch_answers_member_by_member(name, f):
    sys = STABLE[name]
    for index in np.ndindex(sys.batch_shape):
        np.testing.assert_allclose(f(sys)[index], f(sys[index]), rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("name", ["complex_mimo", "realpart_mimo", "dense_mimo"])
def test_norms_scale_and_transpose(name):
    sys = STABLE[name]
    louder = replace(sys, C=-3 * sys.C, D=-3 * sys.D)
    np.testing.assert_allclose(h2_norm_squared(louder), 9 * h2_norm_squared(sys), rtol=1e-13)
    np.testing.assert_allclose(hankel_nuclear_norm(louder), 3 * hankel_nuclear_norm(sys), rtol=1e-12)
    for f in (h2_norm_squared, hankel_nuclear_norm):
        np.testing.assert_allclose(f(transposed(sys)), f(sys), rtol=1e-11)


def test_the_nuclear_norm_is_a_norm():
    """Triangle inequality; and 2 (sigma_1 + ... + sigma_n) bounds the gain of all but D."""
    G, H = STABLE["complex_siso"], STABLE["complex_repeated"]
    H = DiagonalSSM(log_poles=H.log_poles, B=H.B, C=H.C, D=H.D)
    assert hankel_nuclear_norm(side_by_side(G, H)) <= hankel_nuclear_norm(G) + hankel_nuclear_norm(H) + 1e-12
    np.testing.assert_allclose(hankel_nuclear_norm(side_by_side(G, G)), 2 * hankel_nuclear_norm(G), rtol=1e-11)
    omega = np.linspace(-np.pi, np.pi, 2001)
    assert np.max(np.abs(frequency_response(replace(G, D=0 * G.D), omega))) <= 2 * hankel_nuclear_norm(G)


# gradients


@pytest.mark.parametrize("f", PENALTIES)
@pytest.mark.parametrize("name", SMOOTH)
def test_gradients(name, f):
    fields = None if f in (h2_norm_squared, hankel_nuclear_norm) else ["A"] if isinstance(STABLE[name], StateSpace) else ["log_poles"]
    assert gradients_are_right(f, STABLE[name], fields=fields)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@pytest.mark.parametrize("silenced", ["B", "C", "BC"])
def test_h2_is_smooth_where_it_is_0(name, silenced):
    sys = STABLE[name]
    fields = {x: 0 * getattr(sys, x) for x in silenced}
    assert gradients_are_right(h2_norm_squared, replace(sys, **fields, D=0 * sys.D))


def test_h2_has_a_gradient_where_its_root_has_none():
    sys = in_torch(STABLE["complex_zero_input"])
    B = sys.B.clone().requires_grad_()
    silent = DiagonalSSM(log_poles=sys.log_poles, B=B, C=sys.C, D=0 * sys.D)
    (smooth,) = torch.autograd.grad(h2_norm_squared(silent), B)
    (root,) = torch.autograd.grad(torch.sqrt(h2_norm_squared(silent)), B)
    assert torch.equal(torch.view_as_real(smooth), torch.zeros(3, 1, 2, dtype=torch.float64))
    assert not torch.isfinite(torch.view_as_real(root)).all()


@pytest.mark.parametrize("name", ["complex_zero_input", "realpart_zero_input", "complex_repeated", "realpart_repeated"])
def test_the_gradient_of_the_nuclear_norm_is_finite_where_values_vanish(name):
    sys = in_torch(STABLE[name])
    fields = {x: getattr(sys, x).clone().requires_grad_() for x in sys.AXES}
    total = hankel_nuclear_norm(type(sys)(**fields))
    used = [fields[x] for x in ("log_poles", "B", "C")]
    for parameter, gradient in zip(used, torch.autograd.grad(total, used), strict=True):
        assert gradient.shape == parameter.shape
        assert torch.isfinite(torch.view_as_real(gradient + 0j)).all()


@pytest.mark.parametrize("name", ["realpart_siso", "realpart_mimo", "realpart_batch", "realpart_one_state"])
def test_gradients_of_a_real_part_are_those_of_all_its_modes(name):
    """Whichever way the Hankel values are computed."""
    sys, found = in_torch(STABLE[name]), []
    for written_out in (False, True):
        fields = {x: getattr(sys, x).clone().requires_grad_() for x in ("log_poles", "B", "C")}
        system = RealDiagonalSSM(**fields, D=sys.D)
        total = hankel_nuclear_norm(system.expand() if written_out else system).sum()
        found.append(torch.autograd.grad(total, list(fields.values())))
    for direct, through in zip(*found, strict=True):
        torch.testing.assert_close(direct, through, rtol=1e-8, atol=1e-10)
    assert gradients_are_right(hankel_nuclear_norm, STABLE[name])


def test_margins_that_are_kept_cost_nothing_and_have_no_gradient():
    log_poles = torch.tensor([-0.5 + 1j, -0.01 + 2j], dtype=torch.complex128, requires_grad=True)
    one = torch.ones(2, 1, dtype=torch.complex128)
    sys = DiagonalSSM(log_poles=log_poles, B=one, C=one.mT, D=one[:1])
    (gradient,) = torch.autograd.grad(margin_penalty(sys, margin=0.1), log_poles)
    assert gradient[0] == 0
    assert gradient[1].real > 0  # downhill is more decay


@pytest.mark.parametrize("f", PENALTIES)
def test_a_few_steps_downhill(f):
    sys = in_torch(STABLE["realpart_siso"])
    rate = torch.log(-sys.log_poles.real).requires_grad_()
    others = {x: getattr(sys, x) for x in ("B", "C", "D")}

    def loss():
        return f(RealDiagonalSSM(log_poles=torch.complex(-torch.exp(rate), sys.log_poles.imag), **others))

    before = loss()
    optimizer = torch.optim.SGD([rate], lr=1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss() < before


# unstable systems, and what is refused


@pytest.mark.parametrize("name", UNSTABLE)
def test_norms_of_unstable_systems(name):
    assert np.any(np.isinf(h2_norm_squared(UNSTABLE[name])))
    with pytest.raises(ValueError, match="needs stable systems"):
        hankel_nuclear_norm(UNSTABLE[name])
    assert np.all(np.isfinite(penalty(UNSTABLE[name])))
    assert np.all(np.isfinite(modal_l1(UNSTABLE[name])))


@pytest.mark.parametrize("margin", [0, 1, -0.1, 2.0, float("nan")])
def test_margin(margin):
    with pytest.raises(ValueError, match=f"margin must lie between 0 and 1, both excluded, got {margin}"):
        margin_penalty(STABLE["complex_siso"], margin=margin)


@pytest.mark.usefixtures("unchecked_annotations")
def test_only_systems():
    for f in (h2_norm_squared, hankel_nuclear_norm):
        with pytest.raises(TypeError, match="takes one of DiagonalSSM, RealDiagonalSSM, StateSpace, got DiagonalLTV"):
            f(TIME_VARYING["ltv_complex"])
    for f in (modal_l1, penalty):
        with pytest.raises(TypeError, match=r"(modal_l1|margin_penalty) takes one of .*DiagonalRecurrence, got ndarray"):
            f(ONE)
