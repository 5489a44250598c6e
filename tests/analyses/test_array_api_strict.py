"""The core uses nothing outside the Array API standard: everything runs on array-api-strict, with numpy's answers."""

import array_api_strict as strict
import numpy as np
import pytest

from ssm_analysis import DiagonalRecurrence, RealDiagonalSSM, StateSpace, frequency_response, simulate
from ssm_analysis.analyses.responses.kernels import kernel
from ssm_analysis.systems.base import in_double
from ssm_analysis.systems.discretization import bilinear, euler_input, zero_order_hold
from ssm_analysis.xp import to_numpy
from tests.support.systems_table import INVARIANT, LENGTH, TIME_VARYING

ALL = INVARIANT | TIME_VARYING


@pytest.fixture(autouse=True)
def _no_data_dependent_shapes():
    """As on a lazy or compiling library; the linear algebra and FFT extensions are allowed."""
    with strict.ArrayAPIStrictFlags(api_version="2024.12", data_dependent_shapes=False):
        yield


def in_strict(sys):
    return sys.map(lambda x: strict.asarray(np.array(x)))


def assert_same(found, want, rtol=1e-11):
    assert type(found).__module__.startswith("array_api_strict")
    assert to_numpy(found).dtype == np.asarray(want).dtype
    np.testing.assert_allclose(to_numpy(found), want, rtol=rtol, atol=1e-12 * max(1.0, np.max(np.abs(want))))


@pytest.mark.parametrize("name", ALL)
def test_build_and_index(name):
    sys = ALL[name]
    twin = in_strict(sys)
    assert repr(twin) == repr(sys)
    assert twin.batch_shape == sys.batch_shape
    assert_same(twin[None].B, sys[None].B)
    assert in_double(twin).dt == sys.dt
    if not isinstance(sys, StateSpace):
        assert_same(twin.poles(), sys.poles())
    for index in [(0, slice(None, None, 2)), (..., -1)] if len(sys.batch_shape) == 2 else []:
        assert_same(twin[index].C, sys[index].C)


def test_eigenvalues_came_late_into_the_standard():
    """linalg.eigvals is new in 2025.12."""
    sys = INVARIANT["dense_normal"]
    with strict.ArrayAPIStrictFlags(api_version="2025.12"):
        assert_same(in_strict(sys).poles(), sys.poles())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("length", [1, LENGTH])
def test_simulate(name, length):
    sys = ALL[name]
    if name in TIME_VARYING:
        sys = sys.map(lambda x: x[:length])
    rng = np.random.default_rng(96)
    u = rng.normal(size=(length, 2, *sys.batch_shape, sys.ninputs))
    assert_same(simulate(in_strict(sys), strict.asarray(u)), simulate(sys, u))
    if not isinstance(sys, RealDiagonalSSM):
        assert_same(simulate(in_strict(sys), strict.asarray(1j * u)), simulate(sys, 1j * u))


@pytest.mark.parametrize("name", INVARIANT)
def test_responses(name):
    sys = INVARIANT[name]
    twin, omega = in_strict(sys), np.array([-0.4, 1.1, 2.0])
    assert_same(twin(1.5 + 0.5j), sys(1.5 + 0.5j))
    assert_same(twin(strict.asarray(np.array([[2.0 + 1j]]))), sys(np.array([[2.0 + 1j]])))
    assert_same(frequency_response(twin, strict.asarray(omega)), frequency_response(sys, omega))
    for length in (1, 2, 9):
        assert_same(kernel(twin, length), kernel(sys, length))


def test_infinite_gain():
    assert_same(in_strict(INVARIANT["diagonal_integrator"])(1.0), INVARIANT["diagonal_integrator"](1.0))


@pytest.mark.parametrize("name", [name for name, sys in ALL.items() if isinstance(sys, RealDiagonalSSM | DiagonalRecurrence)])
def test_other_forms(name):
    sys, twin = ALL[name], in_strict(ALL[name])
    forms = ["system"] if isinstance(sys, DiagonalRecurrence) else ["expand", "to_dense"]
    for form in forms:
        found, want = getattr(twin, form)(), getattr(sys, form)()
        for field in want.AXES:
            assert_same(getattr(found, field), getattr(want, field))


@pytest.mark.parametrize("name", ["complex_mimo", "realpart_mimo", "dense_mimo"])
def test_from_recurrence(name):
    kind, sys, twin = type(INVARIANT[name]), INVARIANT[name], in_strict(INVARIANT[name])
    found, want = (kind.from_recurrence(**{field: getattr(s, field) for field in kind.AXES}) for s in (twin, sys))
    for field in kind.AXES:
        assert_same(getattr(found, field), getattr(want, field))


@pytest.mark.parametrize("rule", [zero_order_hold, bilinear, euler_input])
@pytest.mark.parametrize("a", [[-0.5 + 1j, 0j, -3.0], [-0.5, -1.0, 0.0], [-0.5, -7.0, 0.0]], ids=["complex", "real", "beyond"])
def test_discretize(rule, a):
    arguments = np.array(a), np.ones((3, 1)), np.array([[0.4], [1.0]])
    for found, want in zip(rule(*map(strict.asarray, arguments)), rule(*arguments), strict=True):
        assert_same(found, want)


@pytest.mark.parametrize("name", ["realpart_siso", "complex_pairs", "dense_siso"])
def test_to_control(name):
    """python-control takes numpy, so the arrays leave their library there."""
    found, want = in_strict(INVARIANT[name]).to_control(), INVARIANT[name].to_control()
    np.testing.assert_allclose(found.A, want.A, rtol=1e-14)


def test_two_libraries_are_told_apart():
    sys = INVARIANT["complex_siso"]
    with pytest.raises(TypeError, match=r"u must be an array of the library of the system, got .*strict.* for a system of .*ndarray"):
        simulate(sys, strict.ones((3, 1)))
    with pytest.raises(TypeError, match="must be arrays of one library"):
        type(sys)(log_poles=sys.log_poles, B=sys.B, C=strict.asarray(np.array(sys.C)), D=sys.D)
