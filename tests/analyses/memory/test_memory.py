"""Lemma 2.2 and its weighted forms: one mode by hand, sums in 60 digits, brute force, and laws."""

import tracemalloc
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch

from ssm_analysis import DiagonalSSM, RealDiagonalSSM, StateSpace, memory, simulate
from ssm_analysis.analyses.memory.lemma import LAGS
from ssm_analysis.analyses.spectrum.eigenvalues import Spectrum
from tests.support.every_family import TIME_INVARIANT_FAMILIES
from tests.support.families_table import an_input, fresh, trained
from tests.support.systems_table import INVARIANT, STABLE, UNSTABLE, in_torch, matrices

SHARES = ("modes_beyond", "residue_beyond", "energy_beyond")
MODAL = ("margins", "time_constants", "half_lives", "residues")
ONE = np.ones((1, 1))


def one_mode(lam, *, w=1.0, D=0.0, kind=DiagonalSSM, dt=1.0):
    """D + w lambda^(k-1)."""
    as_complex = 0j if np.iscomplexobj(np.asarray([lam, w])) else 0.0
    log_poles = np.log(np.array([lam]) + as_complex)
    return kind(log_poles=log_poles, B=ONE + as_complex, C=w * ONE + as_complex, D=D * ONE, dt=dt)


# one mode by hand


@pytest.mark.parametrize("lam", [0.5, -0.9 + 0j, 0.3 + 0.8j, 0.999])
@pytest.mark.parametrize("D", [0.0, 2.0])
def test_one_mode(lam, D):
    lags, w, q = (1, 2, 7, 40), 3.0, abs(lam) ** 2
    found = memory(one_mode(lam, w=w, D=D), lags=lags)
    np.testing.assert_allclose(found.margins, [1 - abs(lam)], rtol=1e-13)
    np.testing.assert_allclose(found.time_constants, [-1 / np.log(abs(lam))], rtol=1e-12)
    np.testing.assert_allclose(found.half_lives, [np.log(0.5) / np.log(abs(lam))], rtol=1e-12)
    np.testing.assert_allclose(found.residues, [3.0], rtol=1e-14)
    assert found.lags == lags
    total = D**2 + w**2 / (1 - q)
    np.testing.assert_allclose(found.energy_beyond, [w**2 * q**T / (1 - q) / total for T in lags], rtol=1e-11)
    lasts = [float(abs(lam) ** T >= 1 / np.e) for T in lags]
    np.testing.assert_array_equal(found.modes_beyond, lasts)
    np.testing.assert_allclose(found.residue_beyond, lasts, rtol=1e-15)


def test_one_pair_of_a_real_system():
    """K[k] = Re(w lambda^(k-1)): the energy beyond T is (|w|^2 q^T / (1 - q) + Re(w^2 lambda^2T / (1 - lambda^2))) / 2."""
    lam, w, lags = 0.3 + 0.8j, 1 - 2j, (1, 3, 20)
    found = memory(one_mode(lam, w=w, D=0.5, kind=RealDiagonalSSM), lags=lags)
    q = abs(lam) ** 2
    energy = [(abs(w) ** 2 * q**T / (1 - q) + np.real(w**2 * lam ** (2 * T) / (1 - lam**2))) / 2 for T in (0, *lags)]
    np.testing.assert_allclose(found.energy_beyond, np.array(energy[1:]) / (energy[0] + 0.25), rtol=1e-13)
    np.testing.assert_allclose(found.residues, [abs(w)], rtol=1e-15)


def test_a_lag_counts_modes_that_last_exactly_as_long():
    sys = DiagonalSSM(log_poles=-1 / np.array([10.0, 20.0, 40.0, 80.0]), B=np.ones((4, 1)), C=np.array([[1.0, 2.0, 3.0, 4.0]]), D=ONE)
    found = memory(sys, lags=(10, 11, 40, 81))
    np.testing.assert_array_equal(found.modes_beyond, [1, 0.75, 0.5, 0])
    np.testing.assert_allclose(found.residue_beyond, [1, 0.9, 0.7, 0], rtol=1e-15)


def test_the_residue_of_many_channels_is_a_frobenius_norm():
    B, C = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[1.0, 2.0], [2.0, 0.0]])
    sys = DiagonalSSM(log_poles=np.array([-0.1, -2.0]), B=B, C=C, D=np.zeros((2, 2)))
    np.testing.assert_allclose(memory(sys).residues, [5 * np.sqrt(5), 2], rtol=1e-15)


def test_many_channels_take_little_memory():
    """2,000 inputs and outputs: the residues themselves would be four million numbers for each mode."""
    B = np.ones((3, 2_000)) / np.sqrt(2_000)
    sys = DiagonalSSM(log_poles=np.array([-0.1, -0.01, -2.0]), B=B, C=B.T, D=np.zeros((2_000, 2_000)))
    tracemalloc.start()
    found = memory(sys)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found.residues, np.ones(3), rtol=1e-13)
    assert peak < 2.5 * sys.D.nbytes  # D alone is 32 MB, as large as the residue of one mode


def test_modes_without_weight_have_gradients():
    sys = in_torch(STABLE["complex_zero_input"])
    B = sys.B.clone().requires_grad_()
    torch.sum(memory(replace(sys, B=B)).residues).backward()
    assert torch.all(torch.isfinite(torch.view_as_real(B.grad)))


def test_times_count_in_units_of_dt_and_lags_in_steps():
    slow, fast = memory(one_mode(0.9), lags=(5,)), memory(one_mode(0.9, dt=0.1), lags=(5,))
    np.testing.assert_allclose(fast.time_constants, slow.time_constants / 10, rtol=1e-15)
    np.testing.assert_allclose(fast.half_lives, slow.half_lives / 10, rtol=1e-15)
    for name in SHARES:
        np.testing.assert_array_equal(getattr(fast, name), getattr(slow, name))


# the energy, otherwise


def in_sixty_digits(sys, lags):
    """sum_{k > T} |C lambda^(k-1) B|^2 mode by mode as geometric series, of one system."""
    whole = sys.expand() if isinstance(sys, RealDiagonalSSM) else sys
    with mpmath.workdps(60):
        lam = [mpmath.exp(mpmath.mpc(x)) for x in whole.log_poles]
        B, C = (mpmath.matrix(np.asarray(x, dtype=complex).tolist()) for x in (whole.B, whole.C))
        n, m, p = whole.nstates, whole.ninputs, whole.noutputs
        W = [[C[o, i] * B[i, j] for o in range(p) for j in range(m)] for i in range(n)]
        pairs = [(i, j, mpmath.fsum(a * mpmath.conj(b) for a, b in zip(W[i], W[j], strict=True))) for i in range(n) for j in range(n)]

        def beyond(T):
            return mpmath.re(mpmath.fsum(g * (lam[i] * mpmath.conj(lam[j])) ** T / (1 - lam[i] * mpmath.conj(lam[j])) for i, j, g in pairs))

        total = beyond(0) + mpmath.fsum(abs(mpmath.mpc(d)) ** 2 for d in np.ravel(whole.D))
        return [float(beyond(T) / total) for T in lags]


DIAGONAL = [name for name, sys in STABLE.items() if not isinstance(sys, StateSpace) and not name.endswith("zero_input")]
LONG = (1, 10, 1_000, 10**6, 10**9, 10**12)


@pytest.mark.parametrize("name", DIAGONAL)
def test_energy_in_sixty_digits(name):
    sys = STABLE[name]
    one = sys[(0,) * len(sys.batch_shape)] if sys.batch_shape else sys
    np.testing.assert_allclose(memory(one, lags=LONG).energy_beyond, in_sixty_digits(one, LONG), rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("name", [name for name in STABLE if "light" not in name and not name.endswith("zero_input")])
def test_energy_by_brute_force(name):
    """|lambda| <= 0.97, so 2,000 tokens hold all but 1e-50 of it; dense systems too."""
    sys, lags = STABLE[name], (1, 2, 5, 30)
    for index in np.ndindex(sys.batch_shape):
        A, B, C, D = matrices(sys, index)
        x, energy = B, [np.sum(np.abs(D) ** 2)]
        for _ in range(2_000):
            energy.append(np.sum(np.abs(C @ x) ** 2))
            x = A @ x
        want = [np.sum(energy[T + 1 :]) / np.sum(energy) for T in lags]
        np.testing.assert_allclose(memory(sys[index] if index else sys, lags=lags).energy_beyond, want, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", DIAGONAL)
def test_energy_does_not_depend_on_the_form(name):
    sys = STABLE[name]
    lags = (1, 10, 100)
    want = memory(sys, lags=lags).energy_beyond
    tolerance = 1e-5 if "light" in name else 1e-9  # the poles of the matrix are rounded, 1e-16 beside a margin of 1e-9
    np.testing.assert_allclose(memory(sys.to_dense(), lags=lags).energy_beyond, want, rtol=tolerance, atol=1e-13)
    if isinstance(sys, RealDiagonalSSM):
        np.testing.assert_allclose(memory(sys.expand(), lags=lags).energy_beyond, want, rtol=1e-11)


@pytest.mark.parametrize("family", TIME_INVARIANT_FAMILIES)
def test_energy_of_a_layer_by_its_impulse_response(family):
    layer, lags, L = trained(fresh(family, d_state=16)), (1, 10, 100), 40_000
    sys = layer.system()
    K = []
    for j in range(sys.ninputs):
        impulse = np.zeros((L, *(1,) * len(sys.batch_shape), sys.ninputs))
        impulse[0, ..., j] = 1
        K.append(simulate(sys, impulse))
    energy = np.sum(np.stack(K) ** 2, axis=(0, -1))  # (L, *batch)
    want = np.stack([np.sum(energy[T + 1 :], axis=0) / np.sum(energy, axis=0) for T in lags], axis=-1)
    np.testing.assert_allclose(memory(sys, lags=lags).energy_beyond, want, rtol=1e-9, atol=1e-13)


# laws


@pytest.mark.parametrize("name", STABLE)
def test_shares_are_shares_and_fall_with_the_lag(name):
    found = memory(STABLE[name], lags=(1, 2, 3, 5, 8, 13, 100, 10_000))
    for share in SHARES:
        x = getattr(found, share)
        x = x[np.isfinite(x[..., 0])]
        assert np.all((x >= 0) & (x <= 1 + 1e-12))
        assert np.all(np.diff(x, axis=-1) <= 1e-12)


@pytest.mark.parametrize("name", [name for name in INVARIANT if not name.startswith("dense")])
def test_scaling_the_states_and_the_order_of_modes_change_nothing(name, rng):
    sys = INVARIANT[name]
    scale, order = np.exp(rng.standard_normal(sys.nstates)), rng.permutation(sys.nstates)
    moved = replace(sys, log_poles=sys.log_poles[..., order], B=(sys.B * scale[:, None])[..., order, :], C=(sys.C / scale)[..., order])
    a, b = memory(sys), memory(moved)
    for share in SHARES:
        np.testing.assert_allclose(getattr(b, share), getattr(a, share), rtol=1e-8, atol=1e-13)
    for modal in MODAL:
        np.testing.assert_allclose(getattr(b, modal), getattr(a, modal)[..., order], rtol=1e-13)


@pytest.mark.parametrize("name", INVARIANT)
def test_a_batch_is_its_members_and_torch_is_numpy(name):
    sys = INVARIANT[name]
    all_at_once, theirs = memory(sys), memory(in_torch(sys))
    for field in (*MODAL, *SHARES):
        x = getattr(all_at_once, field)
        y = getattr(theirs, field)
        assert isinstance(y, torch.Tensor)
        if name != "dense_jordan" or field == "energy_beyond":
            x, y = (np.sort(z, axis=-1) if field in MODAL else z for z in (x, y.numpy()))
            np.testing.assert_allclose(y, x, rtol=1e-7, atol=1e-13)
        for index in np.ndindex(sys.batch_shape):
            if index:
                x = getattr(all_at_once, field)[index]
                np.testing.assert_allclose(getattr(memory(sys[index]), field), x, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("share", ["residue_beyond", "energy_beyond"])
@pytest.mark.parametrize("name", ["complex_siso", "realpart_siso", "complex_mimo", "diagonal_real_siso", "dense_siso"])
def test_gradients(name, share):
    sys = in_torch(STABLE[name])
    if isinstance(sys, StateSpace) and share == "residue_beyond":
        pytest.skip("not defined")

    def f(*values):
        return getattr(memory(type(sys)(**dict(zip(sys.AXES, values, strict=True))), lags=(1, 5, 12)), share)

    assert torch.autograd.gradcheck(f, [getattr(sys, field).clone().requires_grad_() for field in sys.AXES])


# questions without an answer


@pytest.mark.parametrize("name", UNSTABLE)
def test_unstable_systems_have_no_share_of_energy(name):
    sys = UNSTABLE[name]
    found = memory(sys)
    stable = np.all(found.margins > 0, axis=-1)
    assert np.all(np.isnan(found.energy_beyond[~stable]))
    assert np.all(np.isfinite(found.energy_beyond[stable]))
    lost = found.margins <= 0
    assert np.any(lost)
    for times in (found.time_constants, found.half_lives):
        assert np.all(np.isinf(times[lost]) & (times[lost] > 0))
        assert np.all(np.isfinite(times[~lost]))
    assert np.all(found.modes_beyond[~stable] > 0)  # a mode that never decays outlasts every lag


@pytest.mark.parametrize("name", ["complex_zero_input", "realpart_zero_input"])
def test_a_system_that_passes_nothing_on(name):
    sys = STABLE[name]
    direct, nothing = memory(sys), memory(replace(sys, D=0 * sys.D))
    np.testing.assert_array_equal(direct.energy_beyond, np.zeros(len(LAGS)))
    for found in (direct, nothing):
        np.testing.assert_array_equal(found.residues, np.zeros(3))
        np.testing.assert_array_equal(found.residue_beyond, np.full(len(LAGS), np.nan))
        assert np.all(np.isfinite(found.modes_beyond))
    np.testing.assert_array_equal(nothing.energy_beyond, np.full(len(LAGS), np.nan))


def test_modes_of_a_dense_system_have_no_residues():
    found = memory(STABLE["dense_batch"])
    assert np.all(np.isnan(found.residues))
    assert found.residues.shape == found.margins.shape
    assert np.all(np.isnan(found.residue_beyond))
    assert np.all(np.isfinite(found.energy_beyond))


# arguments


def given(log_poles):
    return Spectrum(log_poles=log_poles, condition=np.ones(log_poles.shape[:-1]), error=0.0, matrix="given", one_of_each_pair=False)


def test_a_spectrum_replaces_the_eigenvalues_and_nothing_else():
    sys = STABLE["dense_batch"]
    plain = memory(sys)
    found = memory(sys, spectrum=given(np.broadcast_to(np.array([-0.001, -0.2 + 1j, -3.0]), (2, 2, 3))))
    np.testing.assert_allclose(found.time_constants[1, 0], [1000, 5, 1 / 3], rtol=1e-15)
    np.testing.assert_allclose(found.modes_beyond[0, 1], [1 / 3, 1 / 3, 1 / 3, 0], rtol=1e-15)
    np.testing.assert_array_equal(found.energy_beyond, plain.energy_beyond)
    same = memory(STABLE["complex_siso"], spectrum=given(np.array(STABLE["complex_siso"].log_poles)))
    np.testing.assert_array_equal(same.residue_beyond, memory(STABLE["complex_siso"]).residue_beyond)


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2), (2, 3), (4, 3)])
def test_a_spectrum_of_another_system_is_refused(shape):
    with pytest.raises(ValueError, match=r"spectrum must hold \(2, 2, 3\) eigenvalues, one for each state, got \("):
        memory(STABLE["dense_batch"], spectrum=given(np.full(shape, -0.1)))


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("lags", [(), (0,), (10, -1), (1.5,), (True,), ("10",)])
def test_lags_are_positive_integers(lags):
    with pytest.raises(ValueError, match=r"lags must be positive integers \(tokens\), got \("):
        memory(one_mode(0.5), lags=lags)


@pytest.mark.usefixtures("unchecked_annotations")
def test_lags_may_come_from_numpy():
    found = memory(one_mode(0.5), lags=np.array([1, 2]))
    assert found.lags == (1, 2)
    assert all(type(lag) is int for lag in found.lags)
    np.testing.assert_allclose(found.energy_beyond, [0.25, 0.0625], rtol=1e-14)


@pytest.mark.usefixtures("unchecked_annotations")
def test_what_is_not_a_time_invariant_system_is_refused():
    layer = fresh("s6")
    with pytest.raises(TypeError, match=r"memory takes one of DiagonalSSM, .*got Layer; pass layer.along\(u\) of the layer"):
        memory(layer)
    with pytest.raises(TypeError, match=r"got DiagonalLTV; poles and gains of a time-varying system belong to one moment: pass sys.frozen"):
        memory(layer.along(an_input(layer, 3)))
    assert memory(layer.along(an_input(layer, 3)).frozen(2)).energy_beyond.shape == (8, 4)
    with pytest.raises(TypeError, match=r"pass layer.system\(\)"):
        memory(fresh("lru"))
