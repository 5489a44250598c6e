"""The eigenvalues of S4: stored and ideal, against mpmath, closed forms and published condition numbers."""

import math

import flint
import mpmath
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from ssm_analysis.analyses.spectrum.extended_precision import enclose_eigenvalues
from ssm_analysis.families.s4 import model as s4
from ssm_analysis.families.s4.options import Options
from ssm_analysis.families.s4.spectrum import _legs_condition, ideal_spectrum
from ssm_analysis.families.shared.hippo import MEASURES, hippo, normal_part

SOFTPLUS = {"dt_transform": "softplus", "real_transform": "softplus", "imag_transform": "relu"}
VARIANTS = {"legs": {}, "rank 2": {"rank": 2}, "legt": {"measure": "legt"}, "fout": {"measure": "fout"}}


def single(params):
    """The parameters in 32 bits."""
    return {name: x.astype(np.complex64 if np.iscomplexobj(x) else np.float32) for name, x in params.items()}


def trained(rng, **arguments):
    """Parameters that have moved away from their initialization."""
    params = s4.init(**{"d_model": 4, "d_state": 6, "dt_min": 0.05, "dt_max": 0.5, **arguments}).params
    return {name: x + 0.3 * rng.standard_normal(x.shape) + (0.2j if np.iscomplexobj(x) else 0) for name, x in params.items()}


def matched_error(found, wanted):
    cost = np.abs(np.asarray(found)[:, None] - np.asarray(wanted)[None, :])
    return np.max(cost[linear_sum_assignment(cost)])


@pytest.mark.parametrize("variant", VARIANTS)
def test_stored_spectrum_against_mpmath(rng, variant):
    layer = s4.init(d_model=2, d_state=12, **VARIANTS[variant])
    spectrum, p = layer.spectrum(), layer.params
    with mpmath.workdps(60):
        lam = [-mpmath.exp(x) - 1j * mpmath.mpf(y) for x, y in zip(p["A_real"][0], p["A_imag"][0], strict=True)]
        A = mpmath.diag([*lam, *(mpmath.conj(x) for x in lam)])
        for row in p["P"][:, 0]:
            column = mpmath.matrix([*row.tolist(), *row.conj().tolist()])
            A -= column * column.H
        eigenvalues = mpmath.eig(A, left=False, right=False)
        for h in range(2):
            w = [mpmath.exp(mpmath.mpf(p["inv_dt"][h, 0])) * a / 2 for a in eigenvalues]
            exact = [complex((1 + x) / (1 - x)) for x in w]
            assert matched_error(np.exp(spectrum.log_poles[h]), exact) < 5e-16
            rates = sorted(float(mpmath.log(abs((1 + x) / (1 - x)))) for x in w)
            np.testing.assert_allclose(np.sort(spectrum.log_poles[h].real), rates, rtol=1e-14)
    assert 0 < spectrum.error < 1e-15
    assert spectrum.matrix == "stored Lambda - P P*, 256 bits"
    assert not spectrum.one_of_each_pair


def test_spectrum_of_softplus_and_float32_parameters(rng):
    params = single(trained(rng, rank=2))
    lifted = {name: x.astype(np.complex128 if np.iscomplexobj(x) else np.float64) for name, x in params.items()}
    found = s4.spectrum(params, Options(**SOFTPLUS))
    np.testing.assert_array_equal(found.log_poles, s4.spectrum(lifted, Options(**SOFTPLUS)).log_poles)
    want = np.linalg.eigvals(s4.system(lifted, Options(**SOFTPLUS)).A)
    assert max(matched_error(np.exp(found.log_poles[h]), want[h]) for h in range(4)) < 1e-12


@pytest.mark.parametrize("N", [2, 8, 64, 200])
def test_ideal_legs_has_the_eigenvalues_minus_1_to_minus_n(N):
    delta = np.asarray([0.001, 0.0999])
    k = np.arange(1, N + 1)
    pole = (1 - delta[:, None] * k / 2) / (1 + delta[:, None] * k / 2)
    found = ideal_spectrum("legs", N, delta)
    np.testing.assert_allclose(np.exp(found.log_poles), pole, rtol=1e-13)
    np.testing.assert_array_equal(found.log_poles.imag, np.where(pole < 0, np.pi, 0))
    assert found.matrix == "ideal HiPPO-LegS"
    assert found.condition.shape == (2,)
    assert ideal_spectrum("legs", N, 0.1).log_poles.shape == (N,)


@pytest.mark.parametrize(("N", "exponent"), [(8, 4.9), (16, 10.9), (24, 17.0), (32, 23.1), (64, 47.5), (128, 96.5)])
def test_condition_of_legs(N, exponent):
    """||V||_F ||V^{-1}||_F with unit columns, computed elsewhere in exact arithmetic; ours is divided by N."""
    assert abs(math.log10(ideal_spectrum("legs", N, 0.1).condition) - exponent) < 0.06


@pytest.mark.parametrize("N", [4, 16, 24])
def test_closed_form_of_the_legs_conditions_is_what_interval_arithmetic_finds(N):
    def matrix():
        root = [flint.arb(2 * i + 1).sqrt() for i in range(N)]
        return flint.arb_mat([[-root[i] * root[j] if i > j else -(i + 1) * (i == j) for j in range(N)] for i in range(N)])

    np.testing.assert_allclose([_legs_condition(j, N) for j in range(N)], enclose_eigenvalues(matrix).conditions, rtol=1e-12)
    assert _legs_condition(200, 500) == math.inf  # beyond double precision


@pytest.mark.parametrize("measure", ["legt", "fout"])
def test_ideal_legt_and_fout_against_mpmath(measure):
    N, delta = 8, 0.1
    found = ideal_spectrum(measure, N, delta)
    with mpmath.workdps(50):
        i, j = np.indices((N, N))
        if measure == "legt":
            sign = np.where((i < j) & ((j - i) % 2 == 1), -1, 1)
            A = mpmath.matrix(N, N)
            for r, c in np.ndindex(N, N):
                A[r, c] = -int(sign[r, c]) * mpmath.sqrt((2 * r + 1) * (2 * c + 1)) / 2
        else:
            b = [mpmath.sqrt(2 - (k == 0)) * (k % 2 == 0) for k in range(N)]
            A = mpmath.matrix([[-b[r] * b[c] for c in range(N)] for r in range(N)])
            for k in range(N // 2):
                A[2 * k, 2 * k + 1] -= mpmath.pi * k
                A[2 * k + 1, 2 * k] += mpmath.pi * k
        w = [mpmath.mpf(delta) * a / 2 for a in mpmath.eig(A, left=False, right=False)]
        assert matched_error(np.exp(found.log_poles), [complex((1 + x) / (1 - x)) for x in w]) < 5e-16
    V = np.linalg.eig(hippo(measure, N)[0])[1]
    np.testing.assert_allclose(found.condition, np.linalg.norm(V) * np.linalg.norm(np.linalg.inv(V)), rtol=1e-8)


def test_ideal_fout_keeps_the_mode_that_nothing_drives():
    log_poles = ideal_spectrum("fout", 8, 0.1).log_poles
    assert log_poles[0] == 0  # a pole at exactly 1
    assert np.all(log_poles[1:].real < 0)


def test_float64_eigenvalues_of_legs_with_64_states_are_noise():
    """The reason for the extended precision: float64 misses the spectrum of the ideal and of the stored matrix."""
    N = 64
    layer = s4.init(d_model=1, d_state=N, dt_min=0.01, dt_max=0.01)
    ideal, stored = layer.initial_spectrum(), layer.spectrum()
    _, V = normal_part("legs", N)
    Q = math.sqrt(2) * np.concatenate([V.real, V.imag], axis=1)  # orthogonal: HiPPO in the coordinates of the system
    wanted = -np.arange(1.0, N + 1)
    found = np.linalg.eigvals(Q.T @ hippo("legs", N)[0] @ Q)
    cost = np.abs(found[:, None] - wanted) / np.abs(wanted)
    assert np.max(cost[linear_sum_assignment(cost)]) > 0.1
    assert matched_error(layer.system().poles()[0], np.exp(stored.log_poles[0])) > 0.01
    assert matched_error(np.exp(stored.log_poles[0]), np.exp(ideal.log_poles[0])) > 0.1  # two different matrices
    assert ideal.condition[0] > 1e40
    assert 1e10 < stored.condition[0] < 1e20
    np.testing.assert_allclose(np.max(stored.log_poles.real), np.max(ideal.log_poles.real), rtol=1e-9)  # the slowest is known


@pytest.mark.parametrize("measure", MEASURES)
def test_initial_spectrum_knows_what_the_layer_was_initialized_with(measure):
    layer = s4.init(d_model=4, d_state=8, measure=measure, n_ssm=2, rank=3)
    found = layer.initial_spectrum()
    want = ideal_spectrum(measure, 8, np.exp(layer.params["inv_dt"][:, 0]))
    np.testing.assert_allclose(found.log_poles, want.log_poles, rtol=1e-14)
    assert found.matrix == f"ideal HiPPO-{ {'legs': 'LegS', 'legt': 'LegT', 'fout': 'FouT'}[measure] }"
    assert s4.initial_spectrum(single(layer.params)).matrix == found.matrix


def test_a_pole_at_zero_has_log_pole_minus_infinity():
    found = ideal_spectrum("legs", 4, 1.0).log_poles  # delta k = 2 for k = 2
    assert found[1] == -np.inf
    np.testing.assert_allclose(np.exp(found).real, [1 / 3, 0, -1 / 5, -1 / 3], rtol=1e-15)


def test_multiple_and_defective_modes(rng):
    """Three equal modes leave a double eigenvalue; n = 1 with P = 1 and frequency 1 is a Jordan block."""
    layer = s4.init(d_model=1, d_state=6, dt_min=0.1, dt_max=0.1)
    equal = {**layer.params, "A_imag": np.full((1, 3), 2.0), "P": np.ones((1, 1, 3)) + 0j}
    found = s4.spectrum(equal)
    assert found.condition[0] == np.inf
    assert matched_error(np.exp(found.log_poles[0]), s4.system(equal).poles()[0]) < 1e-7
    double = 0.05 * (-0.5 + 2j)  # delta Lambda / 2
    np.testing.assert_allclose(np.exp(found.log_poles[0, :2]), (1 + double) / (1 - double), rtol=1e-15)
    jordan = s4.init(d_model=1, d_state=2)
    jordan = {**jordan.params, "A_imag": np.ones((1, 1)), "P": np.ones((1, 1, 1)) + 0j}
    with pytest.raises(ValueError, match="multiple eigenvalue"):
        s4.spectrum(jordan)


def test_spectrum_where_the_bilinear_rule_fails():
    """Lambda = 1 with delta = 2; only a transform that lets Re Lambda be positive gets there."""
    layer = s4.init(d_model=1, d_state=2)
    params = {
        **layer.params,
        "inv_dt": np.full((1, 1), 2.0),
        "A_real": np.full((1, 1), -1.0),
        "A_imag": np.zeros((1, 1)),
        "P": np.zeros((1, 1, 1)) + 0j,
    }
    with pytest.raises(ValueError, match="the bilinear rule needs I - delta A / 2 to be invertible"):
        s4.spectrum(params, Options(dt_transform="none", real_transform="none"))


def test_bad_spectra(rng):
    with pytest.raises(ValueError, match=r"not a fresh initialization of legs, legt, fout.*spectrum"):
        s4.initial_spectrum(trained(rng))
    p = s4.init(d_model=2, d_state=6).params
    with pytest.raises(ValueError, match=r"one step for each state.*use spectrum\(\)"):
        s4.initial_spectrum({**p, "inv_dt": np.tile(p["inv_dt"], (1, 3))})
    with pytest.raises(ValueError, match="must be one of legs, legt, fout"):
        ideal_spectrum("lagt", 4, 0.1)
    with pytest.raises(ValueError, match="delta must be a positive step"):
        ideal_spectrum("legs", 4, np.asarray([0.1, 0.0]))
