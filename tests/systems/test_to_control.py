"""to_control(): python-control's own responses are those of the system, and what cannot be handed over is refused."""

import warnings
from dataclasses import replace

import control
import numpy as np
import pytest

from ssm_analysis import DiagonalSSM, RealDiagonalSSM, StateSpace, frequency_response, simulate
from ssm_analysis.analyses.responses.kernels import kernel
from tests.support.systems_table import INVARIANT, in_torch, matrices, random_fields

ONE = np.ones((1, 1))
REAL_KERNEL = [
    name
    for name, sys in INVARIANT.items()
    if not sys.batch_shape and (name.startswith(("realpart", "diagonal_real")) or name == "complex_pairs" or sys.B.dtype == np.float64)
]
LIGHT = 1e-9
"""Margin of the lightest pole in the table: python-control's own rounding of A, 1e-16, is 1e-7 of it."""


def omega_of(sys):
    """Frequencies between the poles of the table, none of them on one."""
    return np.linspace(0.05, 3.1, 40) / sys.dt


@pytest.mark.parametrize("name", REAL_KERNEL)
def test_frequency_response(name):
    sys = INVARIANT[name]
    omega = omega_of(sys)
    theirs = control.frequency_response(sys.to_control(), omega, squeeze=False).complex
    ours = frequency_response(sys, omega)
    np.testing.assert_allclose(np.moveaxis(theirs, -1, 0), ours, rtol=1e-12, atol=1e-12 * np.max(np.abs(ours)))


@pytest.mark.parametrize("name", REAL_KERNEL)
def test_impulse_response(name):
    sys = INVARIANT[name]
    theirs = control.impulse_response(sys.to_control(), np.arange(12) * sys.dt, squeeze=False).outputs
    ours = kernel(sys, 12)
    np.testing.assert_allclose(np.moveaxis(theirs, -1, 0), ours, rtol=1e-12, atol=1e-12 * np.max(np.abs(ours)))


@pytest.mark.parametrize("name", REAL_KERNEL)
def test_forced_response(name, rng):
    sys = INVARIANT[name]
    u = rng.normal(size=(30, sys.ninputs))
    theirs = control.forced_response(sys.to_control(), np.arange(30) * sys.dt, u.T, squeeze=False).outputs.T
    ours = simulate(sys, u)
    np.testing.assert_allclose(theirs, ours, rtol=1e-12, atol=1e-12 * np.max(np.abs(ours)))


@pytest.mark.parametrize("name", [name for name in REAL_KERNEL if name.startswith("realpart")])
def test_number_of_states(name):
    assert INVARIANT[name].to_control().nstates == INVARIANT[name].expand().nstates


def test_dt_is_handed_over():
    sys = replace(INVARIANT["realpart_siso"], dt=0.5)
    assert sys.to_control().dt == 0.5
    assert sys.expand().to_control().dt == 0.5
    assert INVARIANT["dense_siso"].to_control().dt == 1.0


@pytest.mark.parametrize("name", [name for name in REAL_KERNEL if name.startswith("realpart")])
def test_recognizes_the_conjugate_pairs_of_an_expanded_system(name):
    """In any order, and with every mode scaled by a complex factor, which changes no residue."""
    sys = INVARIANT[name]
    whole = sys.expand()
    rng = np.random.default_rng(80)
    order = rng.permutation(whole.nstates)
    factor = rng.normal(size=whole.nstates) + 1j * rng.normal(size=whole.nstates)
    shuffled = DiagonalSSM(
        log_poles=whole.log_poles[order], B=factor[:, None] * whole.B[order], C=whole.C[:, order] / factor, D=whole.D, dt=whole.dt
    )
    theirs = shuffled.to_control()
    assert theirs.nstates == sys.to_control().nstates
    ours = frequency_response(sys, omega_of(sys))
    found = np.moveaxis(control.frequency_response(theirs, omega_of(sys), squeeze=False).complex, -1, 0)
    np.testing.assert_allclose(found, ours, rtol=1e-9 if "light" in name else 1e-12, atol=1e-12 * np.max(np.abs(ours)))


def test_real_modes_hidden_by_a_phase_stay_single():
    """Two inputs and outputs: b and c of a real mode may carry opposite phases."""
    rng = np.random.default_rng(82)
    b, c, phase = rng.normal(size=(1, 2)), rng.normal(size=(2, 1)), np.exp(0.7j)
    sys = DiagonalSSM(log_poles=np.array([-0.3 + 1j * np.pi]), B=phase * b, C=c / phase, D=np.zeros((2, 2)))
    theirs = sys.to_control()
    assert theirs.nstates == 1
    np.testing.assert_allclose(theirs.A, [[-np.exp(-0.3)]], rtol=1e-15)
    np.testing.assert_allclose(theirs.C @ theirs.B, c @ b, rtol=1e-14)
    narrow = sys.map(lambda x: x.astype(np.complex64 if np.iscomplexobj(x) else np.float32))
    residue = np.real(narrow.C.astype(complex) @ narrow.B.astype(complex))
    np.testing.assert_allclose(narrow.to_control().C @ narrow.to_control().B, residue, rtol=1e-13)


def test_equal_poles_are_paired_by_their_residues():
    """Two pairs at one place: which of the four belong together shows in the residues only."""
    mu, w = -0.2 + 1j, np.array([1 + 2j, 3 - 1j])
    modes = [(mu, w[0]), (mu, w[1]), (np.conj(mu), np.conj(w[1])), (np.conj(mu), np.conj(w[0]))]
    sys = DiagonalSSM(log_poles=np.array([m for m, _ in modes]), B=np.ones((4, 1)), C=np.array([[r for _, r in modes]]), D=ONE)
    np.testing.assert_allclose(
        control.impulse_response(sys.to_control(), np.arange(9)).outputs, np.real(kernel(sys, 9))[:, 0, 0], rtol=1e-13
    )


def test_equal_pairs_are_counted_once():
    """The same pair three times over: a mode that has found its partner is taken."""
    mu, w = -0.2 + 1j, 1 + 2j
    six = {"log_poles": np.array([mu] * 3 + [np.conj(mu)] * 3), "B": np.ones((6, 1)), "C": np.array([[w] * 3 + [np.conj(w)] * 3]), "D": ONE}
    theirs = DiagonalSSM(**six).to_control()
    assert theirs.nstates == 6
    np.testing.assert_allclose(theirs(2.0), DiagonalSSM(**six)(2.0)[0, 0], rtol=1e-14)
    with pytest.raises(ValueError, match="no conjugate partner"):
        DiagonalSSM(
            **(six | {"log_poles": np.array([mu] * 4 + [np.conj(mu)] * 2), "C": np.array([[w] * 4 + [np.conj(w)] * 2])})
        ).to_control()


def test_modes_that_the_input_does_not_reach_need_no_partner():
    sys = DiagonalSSM(log_poles=np.array([-0.2 + 1j, -0.5]), B=np.array([[0.0], [1.0]]), C=np.ones((1, 2)), D=ONE)
    np.testing.assert_allclose(
        control.impulse_response(sys.to_control(), np.arange(9)).outputs, np.real(kernel(sys, 9))[:, 0, 0], rtol=1e-13
    )
    np.testing.assert_allclose(np.sort_complex(sys.to_control().poles()), np.sort_complex([*np.exp([-0.2 + 1j, -0.2 - 1j]), np.exp(-0.5)]))
    one_zero = DiagonalSSM(log_poles=np.array([-0.2 + 1j]), B=np.array([[0.0, 1.0]]), C=np.ones((1, 1)), D=np.zeros((1, 2)))
    with pytest.raises(ValueError, match="no conjugate partner"):
        one_zero.to_control()
    assert INVARIANT["complex_zero_input"].to_control()(0.3) == INVARIANT["complex_zero_input"].D[0, 0]


def test_light_damping_survives_the_door():
    """1 - |lambda| = 1e-9 at both ends: the pole that python-control holds is the rounded one, not a worse one."""
    sys = INVARIANT["realpart_light_damping"]
    theirs = np.sort(np.abs(sys.to_control().poles()))[::-1]
    np.testing.assert_allclose(1 - theirs[:4], LIGHT, rtol=2e-6)


@pytest.mark.parametrize("name", ["realpart_siso", "complex_pairs", "diagonal_real_siso", "dense_siso"])
def test_single_precision_is_lifted_before_the_exponential(name):
    """A decay rate of 1e-7 is 8 % of the rounding of a float32 pole, but a plain float32 log-pole."""
    sys = INVARIANT[name].map(lambda x: x.astype(np.complex64 if np.iscomplexobj(x) else np.float32))
    if name != "dense_siso":
        sys = replace(sys, log_poles=sys.log_poles * np.float32(1e-6))
    lifted = sys.map(lambda x: x.astype(np.complex128 if np.iscomplexobj(x) else np.float64))
    for field in "ABCD":
        np.testing.assert_array_equal(getattr(sys.to_control(), field), getattr(lifted.to_control(), field))


@pytest.mark.parametrize("name", ["realpart_mimo", "complex_pairs", "dense_siso"])
def test_torch_systems_are_handed_over_outside_their_gradients(name):
    sys = in_torch(INVARIANT[name]).map(lambda x: x.requires_grad_())
    for field in "ABCD":
        np.testing.assert_allclose(getattr(sys.to_control(), field), getattr(INVARIANT[name].to_control(), field), rtol=1e-14, atol=1e-15)


# refusals


@pytest.mark.parametrize("name", ["complex_batch", "realpart_batch", "dense_batch"])
def test_a_batch_is_refused_and_its_members_are_not(name):
    sys = INVARIANT[name]
    with pytest.raises(ValueError, match=r"to_control\(\) takes one system, got the batch shape \(\d, \d\); index it first"):
        sys.to_control()
    if name != "complex_batch":
        member = sys[1, 1].to_control()
        np.testing.assert_allclose(np.sort_complex(member.poles()), np.sort_complex(sys[1, 1].to_dense().poles()), rtol=1e-13)


@pytest.mark.parametrize("name", ["complex_siso", "complex_mimo", "complex_one_state", "complex_light_damping", "complex_on_circle"])
def test_a_complex_kernel_is_refused(name):
    sys = INVARIANT[name]
    if np.iscomplexobj(sys.D):
        with pytest.raises(ValueError, match=r"no equivalent with real matrices \(D is complex\)"):
            sys.to_control()
    with pytest.raises(ValueError, match=r"the pole .* has no conjugate partner .*silently drop.*RealDiagonalSSM\(\.\.\.\)\.to_control"):
        replace(sys, D=sys.D.real).to_control()
    assert RealDiagonalSSM(log_poles=sys.log_poles, B=sys.B, C=sys.C, D=sys.D.real).to_control().nstates == 2 * sys.nstates


def pair(change_pole=0.0, change_residue=0.0):
    mu = -0.2 + 1j
    return DiagonalSSM(
        log_poles=np.array([mu, np.conj(mu) + change_pole]), B=np.ones((2, 1)), C=np.array([[1 + 2j, 1 - 2j + change_residue]]), D=ONE
    )


@pytest.mark.parametrize("size", [1e-12, 1e-6, 0.1])
@pytest.mark.parametrize("argument", ["change_pole", "change_residue"])
@pytest.mark.parametrize("direction", [1.0, 1j])
def test_almost_a_pair_is_refused(argument, direction, size):
    with pytest.raises(ValueError, match=r"the pole 0\.44236\d\+0\.68893\dj has no conjugate partner with the conjugate residue"):
        pair(**{argument: size * direction}).to_control()


def test_roundings_are_forgiven():
    assert pair(change_pole=1e-15, change_residue=1e-15j).to_control().nstates == 2
    assert pair(change_pole=1e-15).map(lambda x: x.astype(np.complex64)).to_control().nstates == 2


def test_complex_matrices_are_refused():
    sys = INVARIANT["dense_complex"]
    with pytest.raises(ValueError, match="has real matrices only and would drop the imaginary parts of A, B, C, D; hand over a system"):
        sys.to_control()
    with pytest.raises(ValueError, match="would drop the imaginary parts of A; hand over"):
        StateSpace(A=sys.A, B=sys.B.real, C=sys.C.real + 0j, D=sys.D.real).to_control()
    with pytest.raises(ValueError, match="would drop the imaginary parts of A; hand over"):
        StateSpace(A=np.diag([0.5, 0.5j]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=ONE).to_control()
    assert StateSpace(A=sys.A.real + 0j, B=sys.B.real, C=sys.C.real, D=sys.D.real).to_control().nstates == 3


def test_what_python_control_would_have_answered():
    """It drops imaginary parts with no more than a warning; its answer is one for another system."""
    sys = INVARIANT["complex_siso"]
    A, B, C, D = matrices(sys)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = control.frequency_response(control.StateSpace(A, B, C, D, 1.0), [0.3]).complex
    ours = frequency_response(sys, np.array([0.3]))
    assert np.abs(theirs - ours[0, 0, 0]) > 0.1 * np.abs(ours[0, 0, 0])


def test_pairing_many_modes_is_quick():
    """512 pairs with 8 inputs and outputs: each mode looks at those near its conjugate only."""
    f = random_fields(81, 256, 8, 8)
    whole = RealDiagonalSSM(**(f | {"D": f["D"].real})).expand()
    assert whole.to_control().nstates == 512
