"""S4: the system against its recurrence, python-control and scipy; its initialization against HiPPO."""

import math
from dataclasses import replace

import array_api_strict
import control
import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from ssm_analysis import FAMILIES, Layer, frequency_response, simulate
from ssm_analysis.families.s4 import model as s4
from ssm_analysis.families.s4.options import Options
from ssm_analysis.families.shared.hippo import MEASURES, hippo, normal_part

EXP = {"dt_transform": "exp", "real_transform": "exp", "imag_transform": "none"}
SOFTPLUS = {"dt_transform": "softplus", "real_transform": "softplus", "imag_transform": "relu"}
VARIANTS = {
    "fresh": {},
    "rank 2": {"rank": 2},
    "legt": {"measure": "legt"},
    "fout": {"measure": "fout"},
    "two copies": {"n_ssm": 2},
    "two channels": {"channels": 2},
    "everything": {"rank": 3, "n_ssm": 2, "channels": 2},
}


def trained(rng, *, size=0.3, **arguments):
    """A small layer whose parameters have moved away from their initialization, each copy on its own."""
    layer = s4.init(**{"d_model": 4, "d_state": 6, "dt_min": 0.05, "dt_max": 0.5, **arguments})

    def moved(x):
        return x + size * (rng.standard_normal(x.shape) + (1j * rng.standard_normal(x.shape) if np.iscomplexobj(x) else 0))

    return layer.map(moved)


def relative(found, wanted):
    return np.max(np.abs(found - wanted)) / np.max(np.abs(wanted))


def matched_error(found, wanted):
    cost = np.abs(np.asarray(found)[:, None] - np.asarray(wanted)[None, :])
    return np.max(cost[linear_sum_assignment(cost)])


def conjugate_matrix(params, h, *, real=np.exp, imag=np.asarray):
    """Lambda - sum P P^* on [x; conj x] of feature h, in complex numbers."""
    s = h % params["A_real"].shape[0]
    lam = -real(params["A_real"][s]) - 1j * imag(params["A_imag"][s])
    P = np.concatenate([params["P"][:, s], params["P"][:, s].conj()], axis=-1)
    return np.diag(np.concatenate([lam, lam.conj()])) - P.T @ P.conj()


@pytest.mark.parametrize("options", [EXP, SOFTPLUS], ids=["exp", "softplus"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_system_is_the_reference_recurrence(rng, variant, options):
    layer = trained(rng, **VARIANTS[variant])
    u = rng.standard_normal((40, 4))
    y = simulate(s4.system(layer.params, Options(**options)), s4.core_input(layer.params, u))
    want = s4.reference(layer.params, u, Options(**options))
    assert want.shape == (40, 4, layer.params["D"].shape[0])
    assert relative(y, want) < 1e-13


def test_one_step_for_each_state(rng):
    layer = trained(rng)
    layer = replace(layer, params={**layer.params, "inv_dt": layer.params["inv_dt"] + 0.5 * rng.standard_normal((4, 3))})
    u = rng.standard_normal((40, 4))
    assert relative(simulate(layer.system(), layer.core_input(u)), layer.reference(u)) < 1e-13
    w = np.linalg.eigvals(layer.system().A)
    found = np.exp(layer.spectrum().log_poles)
    assert max(matched_error(found[h], w[h]) for h in range(4)) < 1e-12


@pytest.mark.parametrize("variant", VARIANTS)
def test_kernel_of_the_conjugate_form_by_scipy(rng, variant):
    layer = trained(rng, **VARIANTS[variant])
    p, sys = layer.params, layer.system()
    impulse = np.zeros((30, 4, 1))
    impulse[0] = 1
    y = simulate(sys, impulse)
    for h in range(4):
        s = h % p["B"].shape[0]
        B = np.concatenate([p["B"][s], p["B"][s].conj()])[:, None]
        C = np.concatenate([p["C"][:, h], p["C"][:, h].conj()], axis=-1)
        A_d, B_d, *_ = scipy.signal.cont2discrete(
            (conjugate_matrix(p, h), B, C, 0 * C[:, :1]), float(np.exp(p["inv_dt"][h, 0])), "bilinear"
        )
        K = np.stack([C @ np.linalg.matrix_power(A_d, k) @ B_d[:, 0] for k in range(30)])
        np.testing.assert_allclose(K.imag, 0, atol=1e-12 * np.max(np.abs(K)))
        K.real[0] += p["D"][:, h]
        assert relative(y[:, h], K.real) < 1e-12


@pytest.mark.parametrize("measure", MEASURES)
def test_response_is_that_of_hippo_by_python_control(rng, measure):
    """Tustin's rule in control keeps the transfer function, G(2/delta (z-1)/(z+1)); reading out after the update multiplies by 2z/(z+1)."""
    N = 8
    layer = s4.init(d_model=2, d_state=N, measure=measure, b_clip=None, dt_min=0.01, dt_max=0.1)
    A, B, _ = hippo(measure, N)
    lam, V = normal_part(measure, N)
    rows = rng.standard_normal((2, N))
    exact = {"A_real": np.log(np.maximum(-lam.real, 1e-30))[None], "A_imag": -lam.imag[None]}  # without the clamp at 1e-4
    params = {**layer.params, **exact, "C": (rows @ V)[None], "D": np.zeros((1, 2))}
    omega = np.asarray([0.003, 0.05, 0.4, 1.5, 3.0])
    z = np.exp(1j * omega)
    found = frequency_response(s4.system(params), omega)[..., 0, 0]
    for h in range(2):
        delta = float(np.exp(layer.params["inv_dt"][h, 0]))
        tustin = control.ss(A, B[:, None], rows[h], 0).sample(delta, method="bilinear")
        want = 2 * z / (z + 1) * tustin(z)
        np.testing.assert_allclose(found[h], want, rtol=1e-9)


def test_control_gets_the_same_system(rng):
    layer = trained(rng, channels=2)
    u = rng.standard_normal((50, 4))
    y = simulate(layer.system(), layer.core_input(u))
    want = control.forced_response(layer.system()[1].to_control(), inputs=u[None, :, 1]).outputs
    np.testing.assert_allclose(y[:, 1], want.reshape(2, -1).T, atol=1e-12 * np.max(np.abs(want)))


def test_copies_are_dealt_round_and_round(rng):
    layer = trained(rng, n_ssm=2)
    layer = replace(layer, params={**layer.params, "inv_dt": np.full((4, 1), -2.0)})
    A = layer.system().A
    np.testing.assert_array_equal(A[2:], A[:2])
    assert np.max(np.abs(A[0] - A[1])) > 1e-3
    np.testing.assert_array_equal(layer.spectrum().log_poles[2:], layer.spectrum().log_poles[:2])
    assert matched_error(np.exp(layer.spectrum().log_poles[1]), np.linalg.eigvals(A[1])) < 1e-12


def test_phase_and_order_of_the_modes_do_not_matter(rng):
    layer = trained(rng)
    phase, order = np.exp(1j * rng.uniform(0, 6, 3)), np.asarray([2, 0, 1])
    p = layer.params
    other = {**p, **{name: p[name] * phase for name in ("P", "B")}, "C": p["C"] * phase.conj()}
    other = {name: x if name in ("inv_dt", "D") else x[..., order] for name, x in other.items()}
    omega = np.linspace(0, 3, 7)
    np.testing.assert_allclose(frequency_response(s4.system(other), omega), frequency_response(layer.system(), omega), rtol=1e-11)
    np.testing.assert_allclose(s4.spectrum(other).log_poles, layer.spectrum().log_poles, rtol=1e-11)


@given(seed=st.integers(0, 2**16))
def test_a_step_never_lengthens_the_state(seed):
    """Re Lambda < 0 and the minus in front of P P^* make A dissipative; its Cayley transform is a contraction."""
    layer = trained(np.random.default_rng(seed), size=2.0, rank=2)
    assert np.max(np.linalg.norm(layer.system().A, ord=2, axis=(-2, -1))) <= 1 + 1e-12
    assert np.max(layer.spectrum().log_poles.real) < 0


@pytest.mark.parametrize("variant", ["everything", "legt"])
def test_torch_and_strict_arrays_give_what_numpy_gives(rng, variant):
    layer = trained(rng, **VARIANTS[variant])
    want = layer.system()
    for convert in (torch.tensor, array_api_strict.asarray):
        found = layer.map(convert).system()
        for name in "ABCD":
            np.testing.assert_allclose(np.asarray(getattr(found, name)), getattr(want, name), rtol=1e-12, atol=1e-14)
    spectrum = layer.map(torch.tensor).spectrum()
    assert isinstance(spectrum.log_poles, torch.Tensor)
    np.testing.assert_array_equal(spectrum.log_poles.numpy(), layer.spectrum().log_poles)
    np.testing.assert_array_equal(spectrum.condition.numpy(), layer.spectrum().condition)


@pytest.mark.parametrize("options", [EXP, SOFTPLUS], ids=["exp", "softplus"])
def test_gradients_of_simulate(rng, options):
    layer = trained(rng, d_model=2, d_state=4, rank=2, channels=2)
    names = tuple(layer.params)
    tensors = tuple(torch.tensor(layer.params[name]).requires_grad_() for name in names)
    u = torch.tensor(rng.standard_normal((5, 2, 1)))
    assert torch.autograd.gradcheck(lambda *x: simulate(s4.system(dict(zip(names, x, strict=True)), Options(**options)), u), tensors)


def test_gradients_of_decay_rates(rng):
    layer = trained(rng, d_model=2, d_state=4)
    names = ("inv_dt", "A_real", "A_imag", "P")
    fixed = {name: torch.tensor(x) for name, x in layer.params.items()}
    tensors = tuple(fixed[name].clone().requires_grad_() for name in names)

    def log_radii(*x):
        return torch.log(torch.abs(s4.system({**fixed, **dict(zip(names, x, strict=True))}).poles()))

    assert torch.autograd.gradcheck(log_radii, tensors)


def test_defaults_are_those_of_the_official_implementation():
    layer = s4.init()
    shapes = {name: x.shape for name, x in layer.params.items()}
    assert shapes == {
        "inv_dt": (64, 1),
        "A_real": (1, 32),
        "A_imag": (1, 32),
        "B": (1, 32),
        "P": (1, 1, 32),
        "C": (1, 64, 32),
        "D": (1, 64),
    }
    delta = np.exp(layer.params["inv_dt"])
    assert 1e-3 <= np.min(delta) < 1.5e-3
    assert 0.07 < np.max(delta) <= 0.1
    np.testing.assert_allclose(layer.params["A_real"], math.log(0.5), atol=1e-13)
    assert np.max(np.abs(layer.params["B"].imag)) == 2.0
    assert layer.options == Options(**EXP)
    np.testing.assert_allclose(np.mean(np.abs(layer.params["C"]) ** 2), 1, rtol=0.05)


@pytest.mark.parametrize("measure", MEASURES)
def test_initial_parameters_are_the_hippo_matrix(measure):
    """[V, conj V] takes the parameters back to HiPPO, up to the clamp of Lambda at 1e-4."""
    N = 10
    layer = s4.init(d_model=2, d_state=N, measure=measure, b_clip=None)
    A, B, _ = hippo(measure, N)
    _, V = normal_part(measure, N)
    whole = np.concatenate([V, V.conj()], axis=1)
    np.testing.assert_allclose(whole @ conjugate_matrix(layer.params, 0) @ whole.conj().T, A, atol=2e-4)
    b = layer.params["B"][0]
    np.testing.assert_allclose(whole @ np.concatenate([b, b.conj()]), B, atol=1e-13)


def test_extra_rank_is_zero_and_seeds_differ():
    layer = s4.init(d_model=2, d_state=4, rank=3)
    np.testing.assert_array_equal(layer.params["P"][1:], 0)
    np.testing.assert_array_equal(s4.init(d_model=2, seed=5).params["C"], s4.init(d_model=2, seed=5).params["C"])
    assert np.all(s4.init(d_model=2, seed=5).params["C"] != s4.init(d_model=2, seed=6).params["C"])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"measure": "lagt"}, "must be one of legs, legt, fout, got 'lagt'"),
        ({"d_state": 5}, "d_state must be even and at least 2.*got 5"),
        ({"d_state": 0}, "d_state must be a positive integer, got 0"),
        ({"d_state": 1}, "d_state must be even and at least 2"),
        ({"d_model": 0}, "d_model must be a positive integer"),
        ({"dt_min": 0.2, "dt_max": 0.1}, "dt_min <= dt_max.*got 0.2 and 0.1"),
        ({"dt_min": 0.0}, "dt_min and dt_max must satisfy.*got 0.0 and 0.1"),
        ({"dt_min": -0.1}, "dt_min and dt_max must satisfy.*got -0.1"),
        ({"dt_max": math.nan}, "dt_min and dt_max must satisfy"),
        ({"measure": "legt", "rank": 1}, "rank must be at least 2 for measure 'legt', got 1"),
        ({"rank": 0}, "rank must be at least 1 for measure 'legs', got 0"),
        ({"n_ssm": 3}, "n_ssm must divide d_model = 64, got 3"),
        ({"b_clip": -1.0}, "b_clip must be positive, or None for no clipping, got -1.0"),
        ({"b_clip": math.nan}, "b_clip must be positive"),
    ],
)
def test_bad_arguments(arguments, match):
    with pytest.raises(ValueError, match=match):
        s4.init(**arguments)


@pytest.mark.parametrize("function", [s4.system, s4.spectrum, s4.initial_spectrum])
def test_bad_parameters(function):
    p = dict(s4.init(d_model=4, d_state=8, n_ssm=2).params)
    with pytest.raises(KeyError, match="missing P"):
        function({name: x for name, x in p.items() if name != "P"})
    with pytest.raises(KeyError, match="unknown log_dt"):
        function({**p, "log_dt": p["inv_dt"]})
    with pytest.raises(ValueError, match=r"'B'.*must have shape \(S, n\), got \(1, 2, 4\)"):
        function({**p, "B": p["B"][None]})
    with pytest.raises(ValueError, match=r"inv_dt must have shape \(H, 1\) or \(H, n\) with n = 4, got \(4, 2\)"):
        function({**p, "inv_dt": np.zeros((4, 2))})
    with pytest.raises(ValueError, match="S must divide the number of features H = 4, got 3"):
        function({**p, **{name: np.ones((3, 4)) for name in ("A_real", "A_imag", "B")}, "P": np.ones((1, 3, 4), dtype=complex)})
    with pytest.raises(ValueError, match=r"dt_transform must be one of .* got 'tanh'"):
        Options(dt_transform="tanh")


def test_family_row():
    family = FAMILIES["s4"]
    assert (family.title, family.features.dynamics, family.features.discretization) == ("S4", "LTI", "bilinear")
    assert next(iter(FAMILIES)) == "s4"
    assert isinstance(family.init(d_model=2, d_state=4), Layer)
