"""H2 norm, and what holds between the norms."""

import array_api_strict as strict
import control
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssm_analysis import DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.analyses.gramians.hankel import hankel_norm, hsv
from ssm_analysis.analyses.norms.l1 import l1_norm
from ssm_analysis.analyses.norms.system_norms import h2_norm, hinf_norm
from ssm_analysis.analyses.responses.time import markov_parameters
from ssm_analysis.xp import to_numpy
from tests.support.systems_table import STABLE, TIME_VARYING, UNSTABLE, in_torch, random_fields

MODERATE = [name for name in STABLE if "light_damping" not in name]
NORMS = {"h2": h2_norm, "hinf": hinf_norm, "hankel": hankel_norm, "l1": l1_norm}


@pytest.mark.parametrize("name", MODERATE)
def test_h2_is_the_energy_of_the_kernel(name):
    K = markov_parameters(STABLE[name], 1200)
    np.testing.assert_allclose(h2_norm(STABLE[name]), np.sqrt(np.sum(np.abs(K) ** 2, axis=(-3, -2, -1))), rtol=1e-12, atol=1e-15)


ORACLE = [name for name in MODERATE if isinstance(STABLE[name], RealDiagonalSSM) and not STABLE[name].batch_shape]
ORACLE.remove("realpart_real_modes_no_output")  # SLICOT's sb03od is 7 % off there; its sb03md and the kernel agree with us


@pytest.mark.parametrize("name", ORACLE)
def test_h2_against_slycot(name):
    np.testing.assert_allclose(h2_norm(STABLE[name]), control.norm(STABLE[name].to_control(), 2), rtol=1e-10)


def test_h2_of_a_small_difference():
    """Two systems whose poles differ by 1e-9: the Gramian alone has no correct digit."""
    mu, step = np.array([-0.01 + 0.5j]), 1e-9j
    difference = DiagonalSSM(log_poles=np.concatenate([mu, mu + step]), B=np.ones((2, 1)), C=np.array([[1.0, -1.0]]), D=np.zeros((1, 1)))
    size, k = np.exp(-0.01), np.arange(1, 40000)
    expected = 2 * np.sqrt(np.sum(size ** (2 * k) * np.sin(k * 0.5e-9) ** 2))  # |l^k - l'^k| = 2 |l|^k sin(k step / 2)
    np.testing.assert_allclose(h2_norm(difference), expected, rtol=1e-7)


@pytest.mark.parametrize("name", NORMS)
def test_norm_of_one_pole(name):
    """1/(z - a): sum |a|^k = 1/(1 - |a|), sqrt of sum |a|^2k, b c / (1 - |a|^2)."""
    a = 0.8 * np.exp(2j)
    one = np.ones((1, 1))
    expected = {"h2": 1 / 0.6, "hinf": 5.0, "hankel": 1 / 0.36, "l1": 5.0}[name]
    np.testing.assert_allclose(NORMS[name](DiagonalSSM(log_poles=np.log([a]), B=one, C=one, D=0 * one)), expected, rtol=1e-9)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("system", ["complex_zero_input", "realpart_zero_input"])
def test_without_input_only_the_feed_through_is_left(name, system):
    expected = 0.0 if name == "hankel" else np.abs(STABLE[system].D[..., 0, 0])
    np.testing.assert_allclose(NORMS[name](STABLE[system]), expected, rtol=1e-14)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("system", MODERATE)
def test_norms_do_not_depend_on_the_form(name, system):
    sys = STABLE[system]
    found = NORMS[name](sys)
    assert found.shape == sys.batch_shape
    np.testing.assert_allclose(NORMS[name](sys.to_dense()), found, rtol=2e-9)
    if isinstance(sys, RealDiagonalSSM):
        np.testing.assert_allclose(NORMS[name](sys.expand()), found, rtol=2e-9)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("system", MODERATE)
def test_norms_scale(name, system):
    sys = STABLE[system]
    louder = sys.map(lambda x: x * (-3.0 if x is sys.C or x is sys.D else 1.0))
    np.testing.assert_allclose(NORMS[name](louder), 3 * NORMS[name](sys), rtol=2e-9, atol=1e-14)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("system", [name for name in MODERATE if STABLE[name].batch_shape])
def test_batches_are_single_systems_side_by_side(name, system):
    found = NORMS[name](STABLE[system])
    for index in np.ndindex(STABLE[system].batch_shape):
        np.testing.assert_allclose(found[index], NORMS[name](STABLE[system][index]), rtol=1e-9)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("system", MODERATE)
def test_torch_gives_the_same_numbers(name, system):
    found = NORMS[name](in_torch(STABLE[system]))
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(found.numpy(), NORMS[name](STABLE[system]), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize(
    "system", ["complex_batch", "complex_mimo", "diagonal_real_siso", "realpart_siso", "realpart_mimo", "dense_mimo", "dense_complex"]
)
def test_the_array_api_standard_is_enough(name, system):
    sys = STABLE[system]
    with strict.ArrayAPIStrictFlags(api_version="2025.12", data_dependent_shapes=False):  # the first with linalg.eigvals
        found = NORMS[name](sys.map(lambda x: strict.asarray(np.array(x))))
        assert type(found).__module__.startswith("array_api_strict")
        np.testing.assert_allclose(to_numpy(found), NORMS[name](sys), rtol=1e-10)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("system", ["complex_siso", "realpart_mimo", "dense_siso", "dense_complex"])
def test_empty_batches(name, system):
    assert NORMS[name](STABLE[system][None][:0]).shape == (0,)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("system", UNSTABLE)
def test_unstable_systems_have_infinite_norms(name, system):
    found = np.ravel(NORMS[name](UNSTABLE[system]))
    assert np.isposinf(found[-1])
    if system == "complex_one_of_batch_growing":
        np.testing.assert_allclose(found[0], NORMS[name](UNSTABLE[system][0]), rtol=1e-12)
    elif found.size == 1:
        assert np.isposinf(found[0])


@pytest.mark.parametrize("name", NORMS)
def test_an_unstable_mode_out_of_sight_counts(name):
    sys = DiagonalSSM(log_poles=np.array([0.1, -1.0]), B=np.ones((2, 1)), C=np.array([[0.0, 1.0]]), D=np.zeros((1, 1)))
    assert np.isposinf(NORMS[name](sys))
    assert np.isposinf(NORMS[name](sys.to_dense()))


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("name", NORMS)
def test_time_varying_systems_are_refused(name):
    with pytest.raises(TypeError, match=f"^{name}_norm takes one of DiagonalSSM, RealDiagonalSSM, StateSpace, got DiagonalLTV"):
        NORMS[name](TIME_VARYING["ltv_real"])


@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(0, 10**6), st.booleans())
def test_inequalities(n, m, p, seed, real):
    """sigma_1 <= Hinf <= 2 sum sigma + ||D||, Hinf <= sqrt(p) l1, H2 <= sqrt(m) Hinf."""
    fields = random_fields(seed, n, m, p)
    sys = RealDiagonalSSM(**(fields | {"D": fields["D"].real})) if real else DiagonalSSM(**fields)
    peak, near = hinf_norm(sys), 1 + 1e-9
    assert hankel_norm(sys) <= peak * near + np.linalg.norm(sys.D, 2) * near
    assert peak <= (2 * np.sum(hsv(sys)) + np.linalg.norm(sys.D, 2)) * near
    assert peak <= np.sqrt(p) * l1_norm(sys) * near
    assert h2_norm(sys) <= np.sqrt(m) * peak * near


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("system", ["complex_siso", "realpart_siso", "realpart_mimo", "realpart_real_modes", "dense_mimo", "dense_complex"])
def test_gradients(name, system):
    if (name, system) == ("hankel", "realpart_real_modes"):
        pytest.skip("the number of Hankel values jumps where a mode leaves the real axis")
    sys = in_torch(STABLE[system])
    fields = [getattr(sys, field).clone().requires_grad_() for field in sys.AXES]

    def f(*fields):
        return NORMS[name](type(sys)(**dict(zip(sys.AXES, fields, strict=True))))

    assert torch.autograd.gradcheck(f, fields, rtol=1e-4, atol=1e-5, fast_mode=True)


def test_state_space_without_states_that_matter():
    """D alone, through a system whose two modes cancel exactly."""
    sys = StateSpace(A=0.5 * np.eye(2), B=np.ones((2, 1)), C=np.array([[1.0, -1.0]]), D=np.full((1, 1), 2.0))
    for norm in (h2_norm, hinf_norm, l1_norm):
        np.testing.assert_allclose(norm(sys), 2, rtol=1e-12)
