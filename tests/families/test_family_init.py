"""Where fresh layers have their eigenvalues, what they draw their parameters from, and which keywords they refuse."""

import inspect

import numpy as np
import pytest
import scipy.stats

from ssm_analysis import FAMILIES
from ssm_analysis.families.shared.hippo import normal_part
from ssm_analysis.studies.initialization import sample_input
from tests.support.families_table import fresh


def softplus(x):
    return np.log1p(np.exp(x))


def uniform_p(x, low, high):
    """How probable a deviation from the uniform distribution as large as that of x is."""
    assert low <= np.min(x)
    assert np.max(x) <= high
    return scipy.stats.kstest(x, scipy.stats.uniform(low, high - low).cdf).pvalue


def normal_p(x, variance):
    return scipy.stats.kstest(np.ravel(x), scipy.stats.norm(0, np.sqrt(variance)).cdf).pvalue


def hippo_n(n):
    """-1/2 in front of the identity, minus the skew-symmetric part of HiPPO-LegS: equation (6) of arXiv 2208.04933."""
    A = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                A[i, j] = -np.sqrt((i + 0.5) * (j + 0.5)) if i > j else np.sqrt((i + 0.5) * (j + 0.5))
            else:
                A[i, j] = -0.5
    return A


def by_frequency(x):
    return x[np.argsort(np.imag(x))]


# LRU


@pytest.mark.parametrize(("r_min", "r_max", "max_phase"), [(0.0, 1.0, 6.28), (0.9, 0.999, np.pi / 10), (0.5, 0.5000001, 1e-3)])
def test_lru_is_uniform_on_the_area_of_its_ring(r_min, r_max, max_phase):
    layer = fresh("lru", d_state=5_000, d_model=1, r_min=r_min, r_max=r_max, max_phase=max_phase)
    mu = layer.system().log_poles
    slack = 1e-12
    assert uniform_p(np.exp(2 * mu.real), r_min**2 - slack, r_max**2 + slack) > 1e-3
    assert uniform_p(mu.imag, 0, max_phase * (1 + slack)) > 1e-3
    assert abs(scipy.stats.spearmanr(mu.real, mu.imag).statistic) < 0.05


def test_lru_input_gain_keeps_the_state_at_the_size_of_the_input():
    layer = fresh("lru", d_state=64, d_model=48)
    p = layer.params
    np.testing.assert_allclose(np.exp(p["gamma_log"]), np.sqrt(1 - np.abs(layer.system().poles()) ** 2), rtol=1e-12)
    for name, variance in (("B_re", 1 / 96), ("B_im", 1 / 96), ("C_re", 1 / 64), ("C_im", 1 / 64), ("D", 1)):
        assert normal_p(p[name], variance) > 1e-3, name


@pytest.mark.parametrize(("r_min", "r_max"), [(0.0, 0.0), (1.0, 1.0), (0.9999999999999999, 1.0), (0.0, 1e-200)])
def test_lru_on_a_ring_without_area_still_decays_and_has_a_logarithm(r_min, r_max):
    mu = fresh("lru", r_min=r_min, r_max=r_max, d_state=200).system().log_poles
    assert np.all(np.isfinite(mu))
    assert np.all(mu.real < 0)
    assert np.all(np.abs(np.exp(mu.real) - r_max) < 2e-16 + 2e-154)


def test_lru_without_phase_is_real_to_rounding():
    poles = fresh("lru", max_phase=0.0).system().poles()
    assert np.max(np.abs(poles.imag)) < 1e-300


# S4D


def steps(layer):
    return np.exp(layer.params["inv_dt"][:, 0])


@pytest.mark.parametrize("init", ["legs", "lin", "inv", "random"])
def test_s4d_modes_of_one_feature_share_a_modulus(init):
    layer = fresh("s4d", init=init, d_state=64)
    want = np.broadcast_to(np.exp(-steps(layer) / 2)[:, None], (4, 32))
    np.testing.assert_allclose(np.abs(layer.system().poles()), want, rtol=1e-12)


@pytest.mark.parametrize("N", [2, 6, 64])
def test_s4d_frequencies_are_those_of_the_paper(N):
    k = np.arange(N // 2)
    want = {
        "lin": -0.5 - 1j * np.pi * k,
        "inv": -0.5 - 1j * N / np.pi * (N / (2 * k + 1) - 1),
        "real": -np.arange(1, N + 1) + 0j,
    }
    legs = by_frequency(np.linalg.eigvals(hippo_n(N)))
    want["legs"] = legs[: N // 2]
    for init, lam in want.items():
        layer = fresh("s4d", init=init, d_state=N)
        mu = layer.system().log_poles
        np.testing.assert_allclose(
            mu / steps(layer)[:, None], np.broadcast_to(lam if init != "legs" else by_frequency(lam)[::-1], mu.shape), rtol=1e-9
        )


def test_s4d_bilinear_poles_are_cayleys_transform():
    layer = fresh("s4d", init="lin", disc="bilinear")
    w = steps(layer)[:, None] * (-0.5 - 1j * np.pi * np.arange(4)) / 2
    np.testing.assert_allclose(layer.system().poles(), (1 + w) / (1 - w), rtol=1e-13)


def test_s4d_input_weights():
    """1, and for LegS the projection of (2k + 1)^(1/2) on the eigenvectors, its imaginary part cut off at 2."""
    for init in ("lin", "inv", "real", "random"):
        assert np.all(fresh("s4d", init=init).params["B"] == 1)
    N = 8
    B = fresh("s4d", init="legs", d_state=N).params["B"][0]
    lam, V = np.linalg.eig(hippo_n(N))
    order = np.argsort(lam.imag)[: N // 2][::-1]
    projected = np.abs(np.conj(V[:, order].T) @ np.sqrt(2 * np.arange(N) + 1))  # up to a phase of each eigenvector
    kept = np.abs(B.imag) < 2
    assert np.all(np.abs(B.imag) <= 2)
    np.testing.assert_allclose(np.abs(B)[kept], projected[kept], rtol=1e-12)
    assert np.all(np.abs(B)[~kept] < projected[~kept])
    small = fresh("s4d", init="legs", d_state=2).params["B"][0]  # too small to be cut off: back in the coordinates of HiPPO
    np.testing.assert_allclose(2 * np.real(normal_part("legs", 2)[1] @ small), np.sqrt([1, 3]), rtol=1e-14)


def test_s4d_random_copies_differ_and_are_log_normal():
    layer = fresh("s4d", init="random", d_state=1_000, d_model=4, n_ssm=4)
    assert normal_p(np.log(layer.params["A_imag"]), 1.0) > 1e-3
    assert len(np.unique(layer.params["A_imag"])) == 4 * 500


def test_s4d_output_weights_are_normal():
    p = fresh("s4d", d_model=50, d_state=100, channels=2).params
    assert min(normal_p(p["C"].real, 0.5), normal_p(p["C"].imag, 0.5), normal_p(p["D"], 1.0)) > 1e-3
    assert normal_p(fresh("s4d", init="real", d_model=50, d_state=100).params["C"], 1.0) > 1e-3


# S5

C_SIZES = {
    "trunc_standard_normal": lambda N, H: 2 / N,
    "lecun_normal": lambda N, H: 2 / (H * N),
    "complex_normal": lambda N, H: 1.0,
}


@pytest.mark.parametrize(("N", "blocks"), [(8, 1), (8, 2), (64, 4)])
@pytest.mark.parametrize("conj_sym", [True, False])
def test_s5_has_the_blocks_of_hippo_n(N, blocks, conj_sym):
    p = fresh("s5", d_state=N, blocks=blocks, conj_sym=conj_sym).params
    lam = p["Lambda_re"] + 1j * p["Lambda_im"]
    want = np.tile(np.linalg.eigvals(hippo_n(N // blocks)), blocks)
    want = by_frequency(want)[: N // 2] if conj_sym else by_frequency(want)
    np.testing.assert_allclose(by_frequency(lam), want, rtol=1e-9)
    assert not conj_sym or np.all(lam.imag < 0)


def test_s5_weights_have_the_sizes_of_the_official_code():
    """B is V* times a real matrix with entries of variance 1/N, which is circular with E|b|^2 = 1/N."""
    N, H = 32, 200
    made = {C_init: fresh("s5", d_state=N, d_model=H, conj_sym=False, C_init=C_init).params for C_init in C_SIZES}
    for C_init, p in made.items():
        B, C = p["B"][: N // 2], p["C"]
        np.testing.assert_allclose(p["B"][N // 2 :], np.conj(B), atol=1e-14)
        assert min(normal_p(B.real, 1 / (2 * N)), normal_p(B.imag, 1 / (2 * N))) > 1e-3
        assert min(normal_p(x, C_SIZES[C_init](N, H) / 2) for x in (C.real, C.imag)) > 1e-3
        assert normal_p(p["D"], 1.0) > 1e-3


# S6


def test_s6_rates():
    np.testing.assert_allclose(np.exp(fresh("s6").params["A_log"]), np.tile(np.arange(1.0, 9), (8, 1)), rtol=1e-14)
    np.testing.assert_allclose(np.exp(fresh("s6", A_init="near_unit").params["A_log"]), np.full((8, 8), 0.5), rtol=1e-14)


def test_s6_eigenvalues_are_powers_of_the_slowest():
    """lambda_n = lambda_1^n along any input, and all equal for the near-unit initialization."""
    for A_init, power in (("s4d_real", np.arange(1.0, 9)), ("near_unit", np.ones(8))):
        layer = fresh("s6", A_init=A_init)
        mu = layer.along(sample_input(5, 4, 0)).log_poles
        np.testing.assert_allclose(mu, mu[..., :1] * power, rtol=1e-12)


def test_s6_steps_have_a_floor():
    step = softplus(fresh("s6", d_model=200, dt_min=1e-6, dt_max=1e-3).params["dt_proj.bias"])
    np.testing.assert_allclose(np.min(step), 1e-4, rtol=1e-9)


def test_s6_weights_are_those_of_torchs_default():
    p = fresh("s6", d_model=64, expand=2, d_conv=4, dt_rank=5).params
    for name, fan_in in (("in_proj.weight", 64), ("conv1d.weight", 4), ("conv1d.bias", 4), ("x_proj.weight", 128), ("dt_proj.weight", 5)):
        assert uniform_p(np.ravel(p[name]), -(fan_in**-0.5), fan_in**-0.5) > 1e-3, name
    assert np.all(p["D"] == 1)
    assert fresh("s6", d_model=40).params["dt_proj.weight"].shape == (80, 3)  # ceil(40 / 16)


# RG-LRU


@pytest.mark.parametrize("ring", ["a^8", "a"])
def test_rg_lru_starts_on_its_ring(ring):
    p = fresh("rg_lru", d_model=4_000, ring=ring, heads=400).params
    a = np.exp(-softplus(p["a_param"]))
    if ring == "a^8":
        assert uniform_p(a**8, 0.9, 0.999) > 1e-3
    else:
        assert uniform_p(a**2, 0.81, 0.999**2) > 1e-3
    for gate in ("a_gate", "input_gate"):
        assert normal_p(p[f"{gate}.w"], 0.1) > 1e-3
        assert np.all(p[f"{gate}.b"] == 0)


@pytest.mark.parametrize(("ring", "low", "high"), [("a^8", 0.9, 0.999), ("a", 0.9**8, 0.999**8)])
def test_rg_lru_eigenvalues_with_open_and_half_open_gate(ring, low, high):
    """Gate bias +50 opens it; at input 0 it is half open, and the eigenvalue is the square root."""
    layer = fresh("rg_lru", d_model=16, ring=ring)
    half = layer.along(np.zeros((2, 16))).poles()[1, :, 0]
    opened = type(layer)(family="rg_lru", params=dict(layer.params) | {"a_gate.b": np.full((1, 16), 50.0)})
    full = opened.along(np.zeros((2, 16))).poles()[1, :, 0]
    assert np.all((low <= full) & (full <= high))
    np.testing.assert_allclose(half, np.sqrt(full), rtol=1e-12)


# steps, seeds, keywords


@pytest.mark.parametrize(("family", "read"), [
    ("s4", steps),
    ("s4d", steps),
    ("s5", lambda layer: np.exp(layer.params["log_step"])),
    ("s6", lambda layer: softplus(layer.params["dt_proj.bias"])),
])  # fmt: skip
@pytest.mark.parametrize("limits", [(1e-3, 1e-1), (1e-4, 1e-2)])
def test_steps_are_log_uniform(family, read, limits):
    size = {"d_model": 2, "d_state": 800} if family == "s5" else {"d_model": 400, "d_state": 2}
    step = read(fresh(family, **size, dt_min=limits[0], dt_max=limits[1]))
    assert uniform_p(np.log(step), np.log(limits[0]) - 1e-9, np.log(limits[1]) + 1e-9) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_the_seed_alone_decides(family):
    one, again, other = (fresh(family, seed=seed).params for seed in (3, 3, 4))
    assert set(one) == set(again) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name], again[name])
    assert any(np.any(one[name] != other[name]) for name in one)


REFUSED = {
    "d_model": [(0, "d_model must be a positive integer, got 0"), (True, "d_model must be a positive integer, got True")],
    "d_state": [(-2, "d_state must be a positive integer, got -2")],
    "seed": [(-1, "seed must be a non-negative integer, got -1")],
    "dt_min": [(0.0, "dt_min and dt_max must satisfy"), (0.2, "dt_min <= dt_max"), (np.nan, "got nan and 0.1")],
    "dt_max": [(1e-4, "got 0.001 and 0.0001"), (np.inf, "dt_max .*got 0.001 and inf")],
    "n_ssm": [(0, "n_ssm must be a positive integer"), (3, "n_ssm must divide d_model = 4, got 3")],
    "channels": [(0, "channels must be a positive integer, got 0")],
    "init": [("hippo", "init must be one of 'legs', 'lin', 'inv', 'real', 'random'; got 'hippo'")],
    "disc": [("euler", "disc must be one of 'zoh', 'bilinear'; got 'euler'")],
    "blocks": [(0, "blocks must be a positive integer"), (3, "d_state must be a multiple of 2 [*] blocks = 6, got 8"), (8, "= 16, got 8")],
    "C_init": [("normal", "C_init must be one of .*got 'normal'")],
    "discretization": [("euler", "discretization must be one of 'zoh', 'bilinear'; got 'euler'")],
    "r_min": [(-0.1, "r_min and r_max must satisfy 0.0 <= r_min <= r_max <= 1.0"), (np.nan, "got nan")],
    "r_max": [(1.1, "r_max <= 1.0, got 0.0 and 1.1")],
    "max_phase": [(-1.0, "max_phase must lie between 0 and 2 pi, got -1.0"), (7.0, "got 7.0"), (np.nan, "got nan")],
    "expand": [(0, "expand must be a positive integer")],
    "d_conv": [(0, "d_conv must be a positive integer")],
    "dt_rank": [(0, "dt_rank must be a positive integer")],
    "A_init": [("hippo", "A_init must be one of '.*'; got 'hippo'")],
    "headdim": [(0, "headdim must be a positive integer, got 0"), (3, "headdim must divide expand d_model = 8, got 3")],
    "n_groups": [(0, "n_groups must be a positive integer"), (2, "n_groups must divide the number of heads, 1, got 2")],
    "heads": [(0, "heads must be a positive integer"), (3, "heads must divide d_model = 4, got 3")],
    "ring": [("a^4", r"ring must be one of 'a\^8', 'a'; got 'a\^4'")],
    "a_min": [(0.0, "a_min and a_max must satisfy"), (0.9999, "a_min <= a_max")],
    "a_max": [(1.0, "got 0.9 and 1.0"), (np.nan, "got 0.9 and nan")],
    "measure": [("hippo", "measure must be one of legs, legt, fout, got 'hippo'")],
    "rank": [(0, "rank must be at least 1")],
    "b_clip": [(0.0, "b_clip must be positive"), (np.nan, "b_clip must be positive")],
}
CASES = [
    (family, keyword, value, message)
    for family, definition in FAMILIES.items()
    for keyword in inspect.signature(definition.init).parameters
    for value, message in REFUSED.get(keyword, [])
]
SWITCHES = {"conj_sym", "clip_eigs"}


@pytest.mark.parametrize(("family", "keyword", "value", "message"), CASES)
def test_every_keyword_is_checked(family, keyword, value, message):
    sizes = {"d_model": 4} | ({"d_state": 8} if "d_state" in inspect.signature(FAMILIES[family].init).parameters else {})
    with pytest.raises(ValueError, match=message):
        FAMILIES[family].init(**(sizes | {keyword: value}))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_keyword_goes_unchecked(family):
    assert set(inspect.signature(FAMILIES[family].init).parameters) <= set(REFUSED) | SWITCHES


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("keyword", "value"), [("d_model", 4.0), ("d_model", "4"), ("seed", 0.5), ("seed", "zero")])
def test_sizes_are_integers(family, keyword, value):
    with pytest.raises((ValueError, TypeError), match=rf"{keyword} must be a .*integer|SeedSequence"):
        FAMILIES[family].init(**{keyword: value})


def test_pairs_need_an_even_number_of_states():
    with pytest.raises(ValueError, match="d_state must be even, because modes are kept in conjugate pairs, got 7; init='real' takes any"):
        fresh("s4d", d_state=7)
    assert fresh("s4d", d_state=7, init="real").system().nstates == 7
