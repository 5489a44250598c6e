"""verify() on time-invariant layers and systems: signs, full matrices, gains; what must flip does, and every refutation replays."""

import importlib

import mpmath
import numpy as np
import pytest

import ssm_analysis as ssm
from ssm_analysis import DiagonalSSM, RealDiagonalSSM, StateSpace, verify
from ssm_analysis.certificates.dense import circle
from ssm_analysis.certificates.question import Inquiry, Question
from ssm_analysis.families.s4.certificate import contraction
from ssm_analysis.families.shared.hippo import hippo
from tests.benchmarks.certificates import UNSTABLE
from tests.support.families_table import LAYERS, TIME_INVARIANT, fresh, with_options, with_params

STABILITY = ("asymptotic_stability", "uniform_exponential_stability", "non_expansive")


def by_property(subject, **options):
    return {c.property: c for c in verify(subject, **options)}


def verdicts(subject, **options):
    return {name: c.verdict for name, c in by_property(subject, **options).items()}


def diagonal(log_poles, kind=DiagonalSSM, b=1.0, c=1.0):
    mu = np.asarray(log_poles)
    return kind(log_poles=mu, B=np.full((len(mu), 1), b, mu.dtype), C=np.full((1, len(mu)), c, mu.dtype), D=np.zeros((1, 1)))


def dense(A):
    A = np.asarray(A)
    return StateSpace(A=A, B=np.ones((len(A), 1)), C=np.ones((1, len(A))), D=np.zeros((1, 1)))


def of_radius(rng, n, radius):
    A = rng.standard_normal((n, n))
    return A / np.max(np.abs(np.linalg.eigvals(A))) * radius


# --- every layer of every time-invariant family


def question_about(layer):
    return Inquiry(question=Question(dtypes=(), effort="fast"), subject=layer, name="", inputs=None)


@pytest.mark.parametrize("name", TIME_INVARIANT)
def test_fresh_and_trained_layers_are_proved_stable(name):
    found = verdicts(LAYERS[name](), dtypes=["fp32"], hinf_below=1e9)
    assert {found[p] for p in STABILITY} == {"proved"}
    assert found["bounded_state"] == found["bounded_output"] == found["hinf_below"] == "proved"


@pytest.mark.parametrize("name", [name for name in TIME_INVARIANT if not name.startswith("s4") or name.startswith("s4d")])
def test_rates_enclose_the_decay_in_extended_precision(name):
    layer = LAYERS[name]()
    module = importlib.import_module(f"ssm_analysis.families.{layer.family}.certificate")
    decay, sys = module.decay_of_layer(question_about(layer)), layer.system()
    rates = -np.real(sys.log_poles)  # right to a few units in the last place
    assert np.all(decay.rate.lo <= rates * (1 + 1e-13))
    assert np.all(rates * (1 - 1e-13) <= decay.rate.hi)
    if "bilinear" not in vars(layer.options).values():
        np.testing.assert_allclose(decay.rate.hi, decay.rate.lo, rtol=1e-14)


@pytest.mark.parametrize("name", TIME_INVARIANT)
def test_no_run_exceeds_the_certified_state_and_output(name, rng):
    layer = LAYERS[name]()
    found = by_property(layer, input_radius=2.0, dtypes=["fp32"])
    sys = layer.system()
    H = sys.batch_shape[0] if sys.batch_shape else sys.ninputs
    u = rng.standard_normal((400, H))
    u[200:] = np.sign(np.cos(0.3 * np.arange(200)))[:, None] * u[200]  # resonant, then constant directions
    u *= 2.0 / np.linalg.norm(u, axis=1, keepdims=True)
    y = ssm.simulate(sys, layer.core_input(u))
    limit = found["bounded_output"].per_channel["upper"]
    largest = np.max(np.abs(y), axis=0)
    assert np.all(largest <= np.reshape(limit, (*np.shape(limit), *[1] * (largest.ndim - np.ndim(limit)))))


# --- mutations that must flip


def test_s5_with_one_real_part_just_above_zero_is_refuted():
    layer = fresh("s5")
    re = np.array(layer.params["Lambda_re"])
    for value, non_expansive in ((3e-9, "refuted"), (1e-300, "refuted"), (0.0, "proved"), (-0.0, "proved")):
        re[1] = value
        found = by_property(with_params(layer, Lambda_re=re))
        assert found["asymptotic_stability"].verdict == found["uniform_exponential_stability"].verdict == "refuted"
        assert found["asymptotic_stability"].witness.index == (1,)
        assert found["non_expansive"].verdict == non_expansive
        assert found["bounded_state"].verdict == found["bounded_output"].verdict == "refuted"
    re[1] = -1e-300
    assert verdicts(with_params(layer, Lambda_re=re))["asymptotic_stability"] == "proved"


def test_an_unstable_mode_that_nothing_drives_leaves_the_state_bounded():
    one = np.ones((2, 1))
    sys = DiagonalSSM(log_poles=np.array([-0.5, 0.1]), B=one * [[1], [0]], C=one.T, D=np.zeros((1, 1)))
    found = by_property(sys)
    assert found["asymptotic_stability"].verdict == "refuted"
    assert found["bounded_state"].verdict == found["bounded_output"].verdict == "undecided"
    assert "none of them is driven" in found["bounded_state"].reason


def test_modes_that_may_cancel_are_not_called_an_unbounded_output():
    sys = DiagonalSSM(log_poles=np.array([0.1, 0.1]), B=np.ones((2, 1)), C=np.array([[1.0, -1.0]]), D=np.zeros((1, 1)))
    found = verdicts(sys)
    assert found["bounded_state"] == "refuted"
    assert found["bounded_output"] == "undecided"
    pair = RealDiagonalSSM(log_poles=np.array([0.1 + 0j]), B=np.ones((1, 1)), C=np.array([[1j]]), D=np.zeros((1, 1)))
    assert verdicts(pair)["bounded_output"] == "undecided"  # Re(i lambda^k) = 0
    assert verdicts(diagonal([0.1 + 0.2j], RealDiagonalSSM, c=1j))["bounded_output"] == "refuted"


def test_s4d_without_a_transform_has_the_sign_that_is_stored():
    layer = with_options(fresh("s4d"), real_transform="none")
    rate = np.full(layer.params["A_real"].shape, 0.5)
    assert verdicts(with_params(layer, A_real=rate))["asymptotic_stability"] == "proved"
    for value in (-1e-300, 0.0, -0.5):
        rate[0, 2] = value
        found = by_property(with_params(layer, A_real=rate))["asymptotic_stability"]
        assert found.verdict == "refuted"
        assert found.witness.replay().violated
    backwards = with_options(
        with_params(layer, A_real=-np.abs(rate) - 0.1, inv_dt=-np.ones((4, 1))), real_transform="none", dt_transform="none"
    )
    assert verdicts(backwards)["asymptotic_stability"] == "proved"  # both signs turned


def test_lru_is_stable_as_defined_and_not_as_executed_once_exp_nu_underflows():
    layer = fresh("lru")
    found = by_property(with_params(layer, nu_log=np.full(8, -800.0)))
    assert found["asymptotic_stability"].verdict == "proved"
    assert found["asymptotic_stability"].quantities["slowest decay rate"].lower == 0.0
    assert "without bound" in str(found["asymptotic_stability"])
    assert found["bounded_state"].verdict == "undecided"
    poles = np.exp(1j * np.exp(layer.params["theta_log"])).astype(np.complex64)
    outside = [mpmath.mpf(float(z.real)) ** 2 + mpmath.mpf(float(z.imag)) ** 2 >= 1 for z in poles]
    assert 0 < sum(outside) < 8  # rounding moves some in and some out
    np.testing.assert_array_equal(found["pole_inside:fp32"].per_channel["proved"], False)
    assert found["pole_inside:fp32"].verdict == "refuted"
    assert found["pole_inside:fp32"].witness.index == (int(np.argmax(outside)),)
    assert found["pole_inside:fp32"].witness.replay().violated


def test_s4_whose_lambda_lies_on_the_axis_is_not_called_dissipative():
    layer = with_options(fresh("s4", d_model=1, d_state=4), real_transform="none")
    p = {"A_real": np.zeros((1, 2)), "P": 0 * layer.params["P"]}
    found = by_property(with_params(layer, **p))
    assert found["asymptotic_stability"].verdict != "proved"  # eigenvalues exactly on the circle
    damped = by_property(with_params(layer, A_real=p["A_real"]))  # P P* alone damps: balls decide
    assert damped["asymptotic_stability"].verdict == "proved"
    assert damped["asymptotic_stability"].theorem == "balls"
    growing = by_property(with_params(layer, A_real=-np.ones((1, 2)), P=p["P"]))["asymptotic_stability"]
    assert growing.verdict == "refuted"
    assert growing.witness.replay().violated


def test_the_contraction_of_s4_bounds_the_norm_of_its_exported_matrix():
    layer = LAYERS["s4"]()
    for A, found in zip(layer.system().A, contraction(question_about(layer)), strict=True):
        assert np.linalg.norm(A, 2) <= found.radius[1] * (1 + 1e-12) < 1


def test_parameters_that_became_nan_are_invalid():
    poles = np.array([-1.0, -2.0])
    sys = diagonal(poles)
    poles[0] = np.nan  # the system holds a read-only view
    found = verify(sys, l1_below=1.0)
    assert {c.verdict for c in found} == {"invalid"}
    assert "log_poles" in found[0].reason
    assert "l1_below" in {c.property for c in found}


# --- full matrices


@pytest.mark.parametrize("effort", ["fast", "tight"])
def test_matrices_next_to_the_circle_are_decided_rightly(rng, effort):
    right = 0
    for k in range(60):
        n, margin = (2, 4, 8, 16)[k % 4], 10.0 ** -(2 + k % 6)
        A = of_radius(rng, n, 1 + margin * (-1) ** k)
        found = circle(A, effort=effort)
        assert found.verdict != ("proved" if k % 2 == 0 else "refuted") or k % 2 == 1
        right += found.verdict == ("refuted" if k % 2 else "proved") or found.verdict == ("proved" if k % 2 else "refuted")
        truth = "proved" if (-1) ** k < 0 else "refuted"
        assert found.verdict == truth
        low, high = found.radius
        assert low <= 1 + margin * (-1) ** k + 1e-12 <= high + 2e-12
    assert right == 60


def test_fifty_nine_of_sixty_stable_matrices_at_1e_6_from_the_circle_are_proved(rng):
    proved = [circle(of_radius(rng, (8, 16, 32)[k % 3], 1 - 1e-6)).verdict == "proved" for k in range(60)]
    assert sum(proved) >= 59


@pytest.mark.parametrize("measure", ["legs", "legt"])
def test_hippo_with_256_states_is_proved(measure):
    A = hippo(measure, 256)[0] * 0.005
    found = circle(np.linalg.solve(np.eye(256) - A, np.eye(256) + A))
    assert (found.verdict, found.theorem) == ("proved", "Stein")


def test_triangular_and_integer_matrices_are_decided_exactly():
    assert circle(np.array([[1 - 2.0**-53, 1e9], [0, 0.5]])).verdict == "proved"
    assert circle(np.array([[1.0, 1e9], [0, 0.5]])).verdict == "refuted"
    assert circle(np.array([[0.6 + 0.8j, 0], [3.0, 0.1]])).theorem == "triangular"
    shift = np.roll(np.eye(5), 1, axis=0)
    assert (circle(shift).verdict, circle(shift).theorem) == ("refuted", "determinant")
    assert circle(np.zeros((3, 3))).verdict == "proved"


def test_unimodular_changes_of_basis_keep_an_eigenvalue_that_is_known_exactly(rng):
    """T diag(1 + m, ...) T^{-1} with integer T, det 1, and m = 2^-k is exact in doubles."""
    for k in (8, 16, 24, 32, 40):
        T = np.tril(rng.integers(-2, 3, (4, 4)), -1) + np.eye(4)
        S = T @ (np.triu(rng.integers(-1, 2, (4, 4)), 1) + np.eye(4))
        inverse = np.round(np.linalg.inv(S))
        np.testing.assert_array_equal(S @ inverse, np.eye(4))
        for margin, truth in ((2.0**-k, "refuted"), (-(2.0**-k), "proved")):
            A = S @ np.diag([1 + margin, 0.5, 0.25, -0.5]) @ inverse
            assert circle(A).verdict in (truth, "undecided")
            assert circle(A, effort="tight").verdict == truth


def test_non_expansive_is_about_the_euclidean_length():
    A = np.array([[0.5, 10.0], [0.0, 0.5]])
    found = by_property(dense(A))
    assert found["asymptotic_stability"].verdict == "proved"
    assert found["non_expansive"].verdict == "refuted"
    assert found["non_expansive"].witness.replay().violated
    assert verdicts(dense(0.5 * np.eye(3)))["non_expansive"] == "proved"
    assert verdicts(dense(np.eye(3)[[1, 2, 0]] * (1 - 1e-12)))["non_expansive"] == "proved"


def test_the_certified_state_of_a_full_system_is_never_exceeded(rng):
    A = of_radius(rng, 6, 0.95)
    sys = dense(A)
    found = by_property(sys, input_radius=3.0)
    x, largest = np.zeros(6), 0.0
    response = np.array([np.ones(6) @ np.linalg.matrix_power(A, k) @ np.ones(6) for k in range(300)])
    for u in 3 * np.sign(response[::-1]):
        x = A @ x + np.ones(6) * u
        largest = max(largest, np.linalg.norm(x))
    assert found["bounded_state"].verdict == "proved"
    assert largest <= found["bounded_state"].quantities["largest ||x||"].upper


def test_rounding_the_entries_of_a_matrix_can_move_it_onto_the_circle():
    A = np.array([[1 - 2.0**-20, 1.0], [0.0, 0.5]])
    found = by_property(dense(A))
    assert {d: found[f"pole_inside:{d}"].verdict for d in ("fp32", "bf16", "fp16")} == {
        "fp32": "proved",
        "bf16": "refuted",
        "fp16": "refuted",
    }
    assert found["pole_inside:bf16"].witness.replay().violated


# --- soundness, and three ways to each refutation


def test_no_unstable_diagonal_system_is_proved(rng):
    """2,000 systems in one batch, each with one mode 1e-2 to 1e-300 outside, or on the circle."""
    margins = 10.0 ** -rng.uniform(2, 300, 2000)
    margins[::7] = 0.0
    mu = -rng.random((2000, 6)) + 1j * rng.uniform(-3, 3, (2000, 6))
    mu[np.arange(2000), rng.integers(0, 6, 2000)] = margins
    one = np.ones((2000, 6, 1))
    for kind in (DiagonalSSM, RealDiagonalSSM):
        found = by_property(kind(log_poles=mu, B=one, C=np.swapaxes(one, 1, 2), D=np.zeros((1, 1))), dtypes=[])
        assert not np.any(found["asymptotic_stability"].per_channel["proved"])


def test_no_unstable_full_matrix_is_proved(rng):
    for k in range(400):
        n, margin = 2 + k % 5, 10.0 ** -(2 + 12 * rng.random())
        T = np.tril(rng.standard_normal((n, n)), -1) + np.diag(rng.uniform(-0.9, 0.9, n))
        T[0, 0] = 1 + max(margin, 2.0**-52)
        order = rng.permutation(n)
        A = T[np.ix_(order, order)]  # its eigenvalues are the diagonal of T, exactly
        assert circle(A).verdict != "proved"


@pytest.mark.parametrize(("name", "make"), [(name, make) for name, _, make in UNSTABLE], ids=[name for name, _, _ in UNSTABLE])
def test_nothing_that_is_unstable_on_purpose_is_proved(name, make, rng):
    """Eigenvalues 1e-2 to 1e-14 outside the circle, or on it; `tests.benchmarks.certificates` draws 100,000."""
    assert "proved" not in {make(rng) for _ in range(40)}


@pytest.mark.slow
def test_no_false_proof_among_five_thousand(rng):
    for _, share, make in UNSTABLE:
        assert "proved" not in {make(rng) for _ in range(int(5000 * share))}


@pytest.mark.parametrize(
    "A", [np.diag([1.001, 0.2]) + 0.1, np.array([[0.0, 1.1], [-1.1, 0.0]]), np.array([[0.3, 2.0, 0], [0.4, 0.1, 1.0], [0.2, 0.0, 0.9]])]
)
def test_a_refuted_matrix_is_unstable_in_three_ways(A):
    certificate = by_property(dense(A))["asymptotic_stability"]
    assert certificate.verdict == "refuted"
    replayed = certificate.witness.replay()  # mpmath, by inverse iteration
    assert replayed.violated
    assert replayed.implementation == "mpmath"
    values = mpmath.eig(mpmath.matrix(A.tolist()), left=False, right=False)  # mpmath, by QR
    np.testing.assert_allclose(float(max(abs(v) for v in values)) - 1, replayed.measured, rtol=1e-9)
    power = np.linalg.matrix_power(A, 1024)  # and the powers grow
    assert np.max(np.abs(power)) > 1


@pytest.mark.parametrize("value", [1e-3, 1e-9, 1e-15])
def test_a_refuted_mode_is_unstable_in_three_ways(value):
    layer = fresh("s5", d_model=2, d_state=4)
    layer = with_params(layer, Lambda_re=np.array([-0.1, value]), log_step=np.zeros(2))
    certificate = by_property(layer)["asymptotic_stability"]
    replayed = certificate.witness.replay()
    assert replayed.violated
    np.testing.assert_allclose(replayed.measured, value, rtol=1e-12)
    mu = mpmath.mpf(value) * mpmath.exp(0)
    assert abs(mpmath.exp(mpmath.mpc(mu, float(layer.params["Lambda_im"][1])))) > 1
    assert np.max(np.real(layer.system().log_poles)) > 0
    assert np.exp(np.real(layer.system().log_poles[1]) * min(2.0**60, 1 / value)) > 2  # after that many tokens


# --- gains


def test_gains_below_a_number(rng):
    sys = diagonal([-0.1 + 0.5j, -0.2 + 1j], RealDiagonalSSM)
    hinf, l1 = float(ssm.hinf_norm(sys)), float(ssm.l1_norm(sys))
    found = by_property(sys, hinf_below=hinf * 1.001, l1_below=l1 * 1.001)
    assert found["hinf_below"].verdict == found["l1_below"].verdict == "proved"
    found = by_property(sys, hinf_below=hinf * 0.999, l1_below=l1 * 0.999)
    for name in ("hinf_below", "l1_below"):
        assert found[name].verdict == "refuted"
        replayed = found[name].witness.replay()
        assert replayed.measured > replayed.limit
    dense_found = by_property(sys.to_dense(), hinf_below=hinf * 1.001, l1_below=l1)
    assert dense_found["hinf_below"].verdict == "proved"
    assert dense_found["l1_below"].verdict == "undecided"
    middle = by_property(sys, hinf_below=hinf * (1 + 1e-9))["hinf_below"]
    assert middle.verdict == "undecided"
    assert "lies between the bounds" in middle.reason


def test_gains_of_unstable_systems_are_infinite():
    found = by_property(diagonal([0.1]), hinf_below=1.0, l1_below=1.0)
    for name in ("hinf_below", "l1_below"):
        assert found[name].verdict == "refuted"
        assert found[name].witness.replay().violated


def test_a_batch_reports_each_of_its_systems():
    sys = DiagonalSSM(log_poles=np.array([[-0.1], [0.1], [-0.2]]), B=np.ones((1, 1)), C=np.ones((1, 1)), D=np.zeros((1, 1)))
    certificate = by_property(sys)["asymptotic_stability"]
    np.testing.assert_array_equal(certificate.per_channel["proved"], [True, False, True])
    assert certificate.witness.index == (1, 0)


def test_bounded_state_of_a_single_mode_is_attained():
    found = by_property(diagonal([np.log(0.5)]), input_radius=2.0)
    np.testing.assert_allclose(found["bounded_state"].quantities["largest |x|"].upper, 4.0, rtol=1e-9)
