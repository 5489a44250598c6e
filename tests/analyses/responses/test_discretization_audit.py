"""The discretization audit against the discrete systems it speaks about, scipy, python-control and extended precision."""

from dataclasses import fields

import array_api_strict as strict
import control
import mpmath
import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssm_analysis import FAMILIES, DiagonalSSM, RealDiagonalSSM
from ssm_analysis.analyses.norms.bode_features import dcgain
from ssm_analysis.analyses.responses.discretization_audit import DiscretizationAudit, discretization_audit
from ssm_analysis.analyses.spectrum.damping import damp
from ssm_analysis.systems.discretization import bilinear, euler_input, zero_order_hold

NAMES = [field.name for field in fields(DiscretizationAudit)]
ONE = np.ones((1, 1))


def random_modes(seed, *, batch=(), n=4, m=2, p=3, complex_=True):
    """a, B, C, delta of stable continuous modes."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        x = rng.normal(size=(*batch, *shape))
        return x + 1j * rng.normal(size=x.shape) if complex_ else x

    a = -rng.uniform(0.05, 2, size=(*batch, n)) + (1j * rng.uniform(-5, 5, size=(*batch, n)) if complex_ else 0)
    return a, normal(n, m), normal(p, n), rng.uniform(0.01, 1.5, size=(*batch, n))


CASES = {
    "complex": random_modes(1),
    "real": random_modes(2, complex_=False),
    "batch": random_modes(3, batch=(2, 3)),
    "one_mode": random_modes(4, n=1, m=1, p=1),
}


def system(rule, a, B, C, delta, cls=DiagonalSSM):
    """The layer of the papers, read out after the update."""
    log_poles, B = rule(a, B, delta)
    zero = np.zeros((C.shape[-2], B.shape[-1]))
    return cls.from_recurrence(log_poles=log_poles, B=B, C=C, D=zero)


# definitions


@pytest.mark.parametrize("name", CASES)
def test_gains_are_those_of_the_discrete_systems(name):
    a, B, C, delta = CASES[name]
    audit = discretization_audit(a, B, C, delta)
    np.testing.assert_allclose(audit.dc_gain, dcgain(system(zero_order_hold, a, B, C, delta)), rtol=1e-12)
    np.testing.assert_allclose(audit.dc_gain, dcgain(system(bilinear, a, B, C, delta)), rtol=1e-12)
    np.testing.assert_allclose(audit.euler_dc_gain, dcgain(system(euler_input, a, B, C, delta)), rtol=1e-12)
    np.testing.assert_allclose(audit.log_poles, a * delta, rtol=1e-15)
    np.testing.assert_allclose(audit.bilinear_log_poles, bilinear(a, B, delta)[0], rtol=1e-15)
    size, euler_size = (np.linalg.norm(x, axis=(-2, -1)) for x in (audit.dc_gain, audit.euler_dc_gain))
    np.testing.assert_allclose(audit.dc_ratio, euler_size / size, rtol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_gains_of_the_real_part(name):
    a, B, C, delta = CASES[name]
    audit = discretization_audit(a, B, C, delta, one_of_each_pair=True)
    assert np.isrealobj(audit.dc_gain)
    for rule, found in ((zero_order_hold, audit.dc_gain), (bilinear, audit.dc_gain), (euler_input, audit.euler_dc_gain)):
        np.testing.assert_allclose(found, dcgain(system(rule, a, B, C, delta, RealDiagonalSSM)), rtol=1e-11, atol=1e-14)
    size, euler_size = (np.linalg.norm(x, axis=(-2, -1)) for x in (audit.dc_gain, audit.euler_dc_gain))
    np.testing.assert_allclose(audit.dc_ratio, euler_size / size, rtol=1e-14)


def test_a_single_mode_has_the_ratio_of_its_layer():
    """With one mode there is nothing that could cancel."""
    a, B, C, delta = CASES["one_mode"]
    audit = discretization_audit(a, B, C, delta)
    np.testing.assert_allclose(audit.dc_ratio, np.abs(audit.mode_dc_ratio[0]), rtol=1e-14)


@pytest.mark.parametrize("z", [1e-12, 1e-6, 0.1, 1.6, 30.0, 800.0])
def test_ratio_of_a_real_mode(z):
    """z / (1 - e^-z): 1 + z/2 for small steps, 2.0 at 1.6, z for large ones."""
    with mpmath.workdps(40):
        want = float(mpmath.mpf(z) / -mpmath.expm1(-mpmath.mpf(z)))
    audit = discretization_audit(np.array([-z]), ONE, ONE, np.array([1.0]))
    np.testing.assert_allclose(audit.mode_dc_ratio, want, rtol=1e-15)
    np.testing.assert_allclose(audit.dc_ratio, want, rtol=1e-14)
    np.testing.assert_allclose(want, {1e-12: 1.0, 1e-6: 1.0000005, 0.1: 1.05, 1.6: 2.0, 30.0: 30.0, 800.0: 800.0}[z], rtol=3e-3)


@given(st.floats(1e-8, 40), st.floats(-40, 40))
def test_ratio_of_a_complex_mode(decay, frequency):
    a = np.array([complex(-decay, frequency)])
    with mpmath.workdps(40):
        z = -mpmath.mpc(complex(a[0]))
        want = complex(z / -mpmath.expm1(-z))
    found = discretization_audit(a, ONE, ONE, np.ones(1)).mode_dc_ratio
    np.testing.assert_allclose(found, want, rtol=1e-13)  # near a whole cycle per token 1 - e^-z loses what its argument loses


# laws


def test_all_gains_agree_for_small_steps():
    a, B, C, _ = CASES["complex"]
    audit = discretization_audit(a, B, C, np.full(4, 1e-9))
    np.testing.assert_allclose(audit.euler_dc_gain, audit.dc_gain, rtol=1e-7)
    np.testing.assert_allclose(audit.bilinear_log_poles, audit.log_poles, rtol=1e-8)


def test_the_gain_does_not_depend_on_the_step():
    a, B, C, delta = CASES["complex"]
    slow, fast = (discretization_audit(a, B, C, s * delta) for s in (0.1, 3.0))
    np.testing.assert_allclose(slow.dc_gain, fast.dc_gain, rtol=1e-14)


def test_time_units_do_not_matter():
    """a and B in other units of time, delta too."""
    a, B, C, delta = CASES["complex"]
    audit, other = discretization_audit(a, B, C, delta), discretization_audit(8 * a, 8 * B, C, delta / 8)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(audit, name), getattr(other, name))


def test_one_step_per_channel_and_shared_modes_broadcast():
    a, B, C, _ = random_modes(5, n=3, m=1, p=1)
    steps = np.array([0.1, 0.7])
    audit = discretization_audit(a, B, C, steps[:, None])
    assert {name: getattr(audit, name).shape for name in NAMES} == {
        "log_poles": (2, 3),
        "bilinear_log_poles": (2, 3),
        "mode_dc_ratio": (2, 3),
        "dc_gain": (2, 1, 1),
        "euler_dc_gain": (2, 1, 1),
        "dc_ratio": (2,),
        "aliased": (2, 3),
    }
    for h, delta in enumerate(steps):
        alone = discretization_audit(a, B, C, np.full(3, delta))
        for name in NAMES:
            np.testing.assert_allclose(getattr(audit, name)[h], getattr(alone, name), rtol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_libraries_agree_and_32_bits_are_lifted(name):
    want = discretization_audit(*CASES[name])
    found = discretization_audit(*map(torch.tensor, CASES[name]))
    plain = discretization_audit(*map(strict.asarray, CASES[name]))
    for column in NAMES:
        assert isinstance(getattr(found, column), torch.Tensor)
        np.testing.assert_allclose(getattr(found, column).numpy(), getattr(want, column), rtol=1e-12)
        np.testing.assert_allclose(np.asarray(getattr(plain, column)), getattr(want, column), rtol=1e-12)
    single = [x.astype(np.complex64 if np.iscomplexobj(x) else np.float32) for x in CASES[name]]
    lifted = [x.astype(np.complex128 if np.iscomplexobj(x) else np.float64) for x in single]
    for column in NAMES:
        np.testing.assert_array_equal(getattr(discretization_audit(*single), column), getattr(discretization_audit(*lifted), column))


def test_real_poles_with_complex_weights():
    a, B, C, delta = random_modes(6, complex_=False)
    mixed = discretization_audit(torch.tensor(a), torch.tensor(B + 0.5j), torch.tensor(C), torch.tensor(delta))
    np.testing.assert_allclose(mixed.dc_gain.numpy(), C @ ((B + 0.5j) / -a[:, None]), rtol=1e-14)


def test_gains_that_cancel_have_no_ratio():
    audit = discretization_audit(np.array([-1.0, -1.0]), np.ones((2, 1)), np.array([[1.0, -1.0]]), np.ones(2))
    np.testing.assert_array_equal(audit.dc_gain, 0)
    np.testing.assert_array_equal(audit.dc_ratio, np.nan)


def test_gradients():
    a, B, C, delta = (torch.tensor(x, requires_grad=True) for x in CASES["complex"])
    for column in ("mode_dc_ratio", "dc_gain", "euler_dc_gain", "dc_ratio", "bilinear_log_poles"):
        assert torch.autograd.gradcheck(lambda *x, column=column: getattr(discretization_audit(*x), column), (a, B, C, delta))


# aliasing


def test_aliased_modes_are_those_of_the_damping_table():
    layer = FAMILIES["s4d"].init(d_model=8, d_state=64, init="lin", dt_min=0.01, dt_max=0.3, seed=0)
    p = layer.params
    a = -np.exp(p["A_real"]) - 1j * p["A_imag"]
    audit = discretization_audit(a, p["B"][..., None], p["C"][0][:, None, :], np.exp(p["inv_dt"]), one_of_each_pair=True)
    table = damp(layer.system())
    assert 0 < audit.aliased.sum() < audit.aliased.size
    np.testing.assert_array_equal(audit.aliased, table.aliased)
    np.testing.assert_allclose(2 * audit.dc_gain[:, 0, 0], dcgain(layer.system())[:, 0, 0] - p["D"][0], rtol=1e-9)


# other implementations


def test_scipy_and_python_control():
    a, B, C, delta = random_modes(7, n=3, complex_=False)
    delta = np.full(3, delta[0])
    audit = discretization_audit(a, B, C, delta)
    continuous = control.StateSpace(np.diag(a), B, C, np.zeros((3, 2)))
    np.testing.assert_allclose(audit.dc_gain, control.dcgain(continuous), rtol=1e-12)
    for method in ("zoh", "bilinear"):
        A, B_d, C_d, D_d, _ = scipy.signal.cont2discrete((np.diag(a), B, C, np.zeros((3, 2))), delta[0], method=method)
        np.testing.assert_allclose(audit.dc_gain, C_d @ np.linalg.solve(np.eye(3) - A, B_d) + D_d, rtol=1e-11)
        found = audit.log_poles if method == "zoh" else audit.bilinear_log_poles
        np.testing.assert_allclose(np.sort(np.exp(found)), np.sort(np.linalg.eigvals(A)), rtol=1e-12)


# what is refused


@pytest.mark.usefixtures("unchecked_annotations")
def test_errors():
    a, B, C, delta = CASES["complex"]
    with pytest.raises(TypeError, match=r"delta must be an array .*got float"):
        discretization_audit(a, B, C, 0.1)
    with pytest.raises(TypeError, match="must be arrays of one library"):
        discretization_audit(a, torch.tensor(B), C, delta)
    with pytest.raises(TypeError, match="C must hold real or complex floating-point numbers, got int64"):
        discretization_audit(a, B, np.ones((3, 4), dtype=np.int64), delta)
    with pytest.raises(ValueError, match="a must not be 0: an integrator has no gain at frequency 0"):
        discretization_audit(a * [1, 0, 1, 1], B, C, delta)
    for bad in (0, -1):
        with pytest.raises(ValueError, match="delta must be positive, got a step that is 0 or negative; pass the step itself"):
            discretization_audit(a, B, C, delta * [1, 1, 1, bad])
    with pytest.raises(ValueError, match="delta must be real, got complex128"):
        discretization_audit(a, B, C, delta + 0j)
    with pytest.raises(ValueError, match="delta a must not be -2 or 2"):
        discretization_audit(np.array([-4.0]), ONE, ONE, np.array([0.5]))


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize(("place", "shape"), [(0, (5,)), (1, (5, 2)), (1, (4,)), (2, (3, 5)), (2, (4,)), (3, (5,)), (3, ())])
def test_shapes_must_fit(place, shape):
    arguments = list(CASES["complex"])
    arguments[place] = np.ones(shape)
    with pytest.raises(ValueError, match=r"a, B, C and delta must broadcast to .*, got \(.*; one step per channel is delta\[..., None\]"):
        discretization_audit(*arguments)
