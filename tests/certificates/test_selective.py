"""verify() on layers whose matrices depend on the input: no adversary exceeds a certificate, exact ranges are attained, mutations flip."""

import flint
import numpy as np
import pytest

from ssm_analysis import FAMILIES, verify
from ssm_analysis.certificates import RMSNorm, window
from ssm_analysis.certificates.input_set import input_set
from ssm_analysis.certificates.search import attained_rate
from tests.support.certified_layers import BITS, a_norm, adversaries, by_property, states, verdicts
from tests.support.families_table import LAYERS, SELECTIVE, d_model, fresh, trained, with_biases, with_options, with_params, without


def taps_of(layer):
    """Tokens that one step reads."""
    p = layer.params
    return p["conv1d.weight"].shape[-1] if "conv1d.weight" in p else len(p["conv_1d.w"]) if "conv_1d.w" in p else 1


@pytest.mark.parametrize("kind", ["rms", "layer"])
@pytest.mark.parametrize("name", SELECTIVE)
def test_no_adversary_exceeds_a_certificate(name, kind, rng):
    layer = LAYERS[name]()
    norm = a_norm(layer, kind, rng)
    found = by_property(layer, norm=norm, dtypes=["fp32"], effort="witness" if kind == "layer" else "tight")
    assert {found[p].verdict for p in ("asymptotic_stability", "uniform_exponential_stability", "bounded_state", "bounded_output")} == {
        "proved"
    }
    state, rate = found["bounded_state"], found["asymptotic_stability"]
    assert np.all(state.per_channel.get("seen", 0) <= state.per_channel["upper"])
    slowest = rate.quantities["slowest decay rate"]
    assert slowest.lower <= slowest.upper * (1 + 1e-12)
    low, upper = rate.per_channel["slowest rate"], state.per_channel["upper"]
    for u in adversaries(input_set(norm, None, d_model(layer)), rng):
        h, along = states(layer, u)
        assert np.all(np.max(np.abs(h), axis=(0, -1)) <= upper)
        assert np.all(np.min(-np.broadcast_to(along.log_poles, h.shape), axis=(0, -1)) >= low * (1 - 1e-12))
        y = np.asarray(layer.reference(u))
        assert np.all(np.max(np.abs(y.reshape(len(u), -1)), axis=0) <= np.ravel(found["bounded_output"].per_channel["upper"]))


@pytest.mark.parametrize("name", ["s6", "s6_zamba", "s6_jamba", "mamba2_groups", "rg_lru_block"])
@pytest.mark.parametrize("effort", ["fast", "tight"])
def test_a_stretched_time_axis_is_followed(name, effort, rng):
    if name == "rg_lru_block":
        pytest.skip("its step has no scale")
    layer = with_options(LAYERS[name](), delta_scale=0.3)
    norm = a_norm(layer, "rms", rng)
    found = by_property(layer, norm=norm, effort=effort, dtypes=[])
    for u in adversaries(input_set(norm, None, d_model(layer)), rng):
        h, along = states(layer, u)
        assert np.all(np.max(np.abs(h), axis=(0, -1)) <= found["bounded_state"].per_channel["upper"])
        assert np.min(-along.log_poles) >= found["asymptotic_stability"].quantities["slowest decay rate"].lower


@pytest.mark.parametrize("name", SELECTIVE)
def test_tight_bounds_are_at_most_the_fast_ones(name, rng):
    layer = LAYERS[name]()
    norm = a_norm(layer, "layer", rng)
    fast, tight = (
        by_property(layer, norm=norm, effort=effort, dtypes=[])["bounded_state"].per_channel["upper"] for effort in ("fast", "tight")
    )
    assert np.all(tight <= fast * (1 + 1e-9))


# --- exact ranges are attained


def test_the_step_of_mamba2_is_attained_at_both_ends(rng):
    layer = fresh("mamba2", headdim=2)
    norm = a_norm(layer, "layer", rng)
    found = by_property(layer, norm=norm, dtypes=[])["asymptotic_stability"].per_channel
    inputs, W = input_set(norm, None, d_model(layer)), layer.params["in_proj.weight"]
    for head in range(layer.params["A_log"].shape[0]):
        w = W[len(W) - layer.params["A_log"].shape[0] + head] * inputs.weight
        for sign, end in ((1, "step, upper"), (-1, "step, lower")):
            delta = -layer.along(inputs.token(sign * w)[None]).log_poles[0, head, 0, 0] / np.exp(layer.params["A_log"][head])
            np.testing.assert_allclose(delta, found[end][head], rtol=1e-6)


def test_the_gate_of_rg_lru_is_attained(rng):
    layer = fresh("rg_lru", d_model=6)
    norm = a_norm(layer, "rms", rng)
    inputs = input_set(norm, None, 6)
    rates = by_property(layer, norm=norm, dtypes=[])["asymptotic_stability"].per_channel["slowest rate"]
    for channel in range(6):
        u = inputs.token(-layer.params["a_gate.w"][0][:, channel] * inputs.weight)[None]
        np.testing.assert_allclose(-layer.along(u).log_poles[0, channel, 0], rates[channel], rtol=1e-6)


def test_the_square_root_bound_of_rg_lru_is_attained():
    """a_t = sqrt(t / (t + 1)) and input 1 give h_T = sqrt(T)."""
    h = 0.0
    for t in range(100):
        a = np.sqrt(t / (t + 1))
        h = a * h + np.sqrt(1 - a * a)
    np.testing.assert_allclose(h, 10.0, rtol=1e-12)
    T, worst = 50, 0.0
    for a in np.random.default_rng(1).uniform(0, 1, (2000, T)):
        h = 0.0
        for a_t in a:
            h = a_t * h + np.sqrt(1 - a_t**2)
        worst = max(worst, h)
    assert worst <= np.sqrt(T)


def test_a_constant_input_settles_at_the_target_of_t1(rng):
    layer = trained(fresh("s6", d_model=3, d_state=2))
    token = rng.standard_normal(3)
    h, along = states(layer, np.tile(token, (200_000, 1))[:4000])
    drive = (along.B[..., 0] * layer.core_input(np.tile(token, (4000, 1))))[-1]
    tau = drive / -np.expm1(along.log_poles[-1])
    fast = along.log_poles[-1] < -0.02
    np.testing.assert_allclose(h[-1][fast], tau[fast], rtol=1e-9)
    assert np.all(np.abs(h) <= np.maximum(np.max(np.abs(h[:8]), axis=0), np.abs(tau)) * (1 + 1e-9))


def test_the_step_of_s6_is_within_a_small_factor_of_a_witness(rng):
    layer = FAMILIES["s6"].init(d_model=32, seed=3)
    found = by_property(layer, norm=RMSNorm(weight=np.ones(32)), effort="witness", dtypes=[])["asymptotic_stability"].per_channel
    bias = layer.params["dt_proj.bias"]
    certified = np.maximum(found["step before softplus, upper"] - bias, bias - found["step before softplus, lower"])
    seen = np.maximum(found["step before softplus, seen upper"] - bias, bias - found["step before softplus, seen lower"])
    assert np.all(seen <= certified)
    assert np.median(certified / seen) < 2.5


# --- mutations


def test_without_anything_that_bounds_the_input_rates_are_undecided_and_the_reason_asks():
    for name in ("s6", "mamba2", "rg_lru", "s6_zamba"):
        found = by_property(LAYERS[name]())
        assert found["non_expansive"].verdict == "proved"
        for prop in ("asymptotic_stability", "bounded_state", "no_overflow:fp32", "pole_inside:fp32"):
            assert found[prop].verdict == "undecided"
            assert "input_radius=" in found[prop].reason


def test_a_floor_of_the_step_or_normalized_selection_needs_no_norm():
    for name in ("s6_offset", "mamba2_groups", "s6_falcon", "s6_jamba"):
        found = verdicts(LAYERS[name]())
        assert found["asymptotic_stability"] == found["pole_inside:fp32"] == "proved"
        assert found["bounded_state"] == "undecided"
    without_floor = with_options(LAYERS["mamba2_groups"](), time_step_limit=(0.0, np.inf))
    assert verdicts(without_floor)["asymptotic_stability"] == "undecided"


def test_a_decay_rate_whose_exponential_underflows_is_non_expansive_and_no_more():
    layer = fresh("s6", d_model=4, d_state=2)
    A_log = np.array(layer.params["A_log"])
    A_log[1, 0] = -800.0
    found = by_property(with_params(layer, A_log=A_log), input_radius=1.0)
    assert found["non_expansive"].verdict == "proved"
    assert found["asymptotic_stability"].verdict == "undecided"
    assert "underflows" in found["asymptotic_stability"].reason
    assert found["pole_inside:fp32"].verdict == "refuted"
    assert found["bounded_state"].verdict == "undecided"


def test_a_step_bias_of_minus_50_is_stable_as_defined_and_not_as_executed():
    layer = fresh("s6", d_model=4, d_state=2)
    found = by_property(with_params(layer, dt_proj__bias=np.full(8, -50.0)), input_radius=1.0)
    assert found["uniform_exponential_stability"].verdict == "proved"
    assert 0 < found["uniform_exponential_stability"].quantities["slowest decay rate"].lower < 1e-20
    assert "half-life" in str(found["uniform_exponential_stability"])
    refuted = found["pole_inside:fp32"]
    assert refuted.verdict == "refuted"
    assert refuted.witness.replay().measured == 1.0
    torch = pytest.importorskip("torch")
    mu = torch.tensor(layer.map(np.array).along(np.asarray(refuted.witness.u)).log_poles)
    assert mu.shape[0] == len(refuted.witness.u)


def test_projections_ten_times_as_large_underflow_the_rate_without_a_floor_and_scale_the_state_with_one():
    layer = without(fresh("s6", d_model=16, d_state=4), "conv1d.bias")
    larger = with_params(layer, x_proj__weight=300 * layer.params["x_proj.weight"])
    norm = RMSNorm(weight=np.full(16, 30.0))
    assert verdicts(larger, norm=norm)["asymptotic_stability"] == "undecided"
    floor = [with_options(v, dt_offset=1e-4) for v in (layer, larger)]
    assert {verdicts(v, norm=norm)["asymptotic_stability"] for v in floor} == {"proved"}
    small, large = (by_property(v, norm=norm)["bounded_state"].quantities["largest |h|"].upper for v in floor)
    assert large > 100 * small


def test_a_negative_offset_makes_the_step_undecided_or_refutes():
    layer = with_options(fresh("s6", d_model=4, d_state=2), dt_offset=-10.0)
    found = by_property(layer, input_radius=0.1)
    assert found["non_expansive"].verdict == "refuted"
    assert found["non_expansive"].witness.replay().violated
    assert found["asymptotic_stability"].verdict != "proved"
    assert found["bounded_state"].verdict != "proved"
    assert {c.verdict for c in verify(layer)} <= {"undecided"}


def test_an_rg_lru_whose_gate_can_close_keeps_the_square_root_bound():
    layer = fresh("rg_lru", d_model=4)
    weights = np.array(layer.params["a_gate.w"]) * 1e4
    found = by_property(with_params(layer, a_gate__w=weights), input_radius=1.0)
    assert found["non_expansive"].verdict == "proved"
    assert found["asymptotic_stability"].verdict == "undecided"
    assert "sqrt(length)" in found["bounded_state"].reason


def test_missing_taps_at_the_ends_are_needed(rng, monkeypatch):
    """A large bias in front of the convolution: with all taps inside only, the first tokens break the bound."""
    for padding in ("causal", "same"):
        layer = with_options(with_biases(fresh("s6", d_model=4, d_state=2, d_conv=3)), conv_padding=padding)
        layer = with_params(layer, in_proj__bias=np.full(16, 40.0), conv1d__weight=np.tile([[[-1.0, -1.0, 1.5]]], (8, 1, 1)))
        inputs = input_set(None, 1.0, 4)
        u = inputs.token(rng.standard_normal((6, 4)))
        h = np.max(np.abs(states(layer, u)[0]), axis=(0, -1))
        assert np.all(h <= by_property(layer, input_radius=1.0)["bounded_state"].per_channel["upper"])
        with monkeypatch.context() as patch:
            patch.setattr(window, "tap_sets", lambda K, padding, moves: [np.arange(K)])
            assert not np.all(h <= by_property(layer, input_radius=1.0)["bounded_state"].per_channel["upper"])


def test_heads_of_mamba2_take_the_weights_of_their_group(rng):
    """Four heads in two groups of which the first has no B at all."""
    layer = fresh("mamba2", d_model=4, d_state=2, headdim=2, n_groups=2)
    heads, states_of_B = layer.params["A_log"].shape[0], 4
    W, bias = np.array(layer.params["in_proj.weight"]), np.array(layer.params["conv1d.bias"])
    first = len(W) - heads - 2 * states_of_B
    W[first : first + 2] = 0  # B of group 0
    bias[-2 * states_of_B : -2 * states_of_B + 2] = 0
    layer = with_params(layer, in_proj__weight=W, conv1d__bias=bias)
    upper = by_property(layer, input_radius=1.0)["bounded_state"].per_channel["upper"]
    half = heads // 2
    assert np.all(upper[:half] < 1e-12)
    assert np.all(upper[half:] > 1e-6)
    h, _ = states(layer, rng.standard_normal((9, 4)) / 4)
    assert np.all(np.max(np.abs(h), axis=(0, -1)) <= upper)


def test_degenerate_rows_pass():
    layer = fresh("s6", d_model=4, d_state=2)
    zero = with_params(layer, dt_proj__weight=0 * layer.params["dt_proj.weight"])
    found = by_property(zero, input_radius=1.0, effort="witness")
    slowest = found["asymptotic_stability"].quantities["slowest decay rate"]
    np.testing.assert_allclose(slowest.lower, slowest.upper, rtol=1e-9)
    nothing = layer.map(lambda x: 0 * x)
    assert verdicts(nothing, input_radius=1.0, effort="witness")["bounded_state"] == "proved"


def test_the_slow_input_is_a_document_of_the_layer(rng):
    layer = LAYERS["s6_centered"]()
    found = by_property(layer, input_radius=2.0)["pole_inside:bf16"]
    assert found.verdict == "refuted"
    u = np.asarray(found.witness.u)
    assert u.shape == (taps_of(layer), d_model(layer))
    assert np.all(np.linalg.norm(u, axis=1) <= 2.0)
    np.testing.assert_allclose(attained_rate(layer, u).value, found.quantities["slowest decay rate"].upper)


def test_a_state_that_overflows_fp16_is_refuted_by_an_input_in_three_ways():
    layer = fresh("s6", d_model=4, d_state=2)
    larger = with_params(layer, in_proj__weight=30 * layer.params["in_proj.weight"], x_proj__weight=30 * layer.params["x_proj.weight"])
    found = by_property(larger, input_radius=2.0, effort="witness", dtypes=["fp16", "fp32"])
    assert found["no_overflow:fp32"].verdict == "proved"
    refuted = found["no_overflow:fp16"]
    assert refuted.verdict == "refuted"
    replayed = refuted.witness.replay()  # the exported system, state by state
    assert replayed.measured > 65504
    u, (channel, n) = np.asarray(refuted.witness.u), refuted.witness.index
    assert np.all(np.linalg.norm(u, axis=1) <= 2.0)
    alone = with_params(larger, D=0 * layer.params["D"])  # the family's own reference; C is not part of the state, so of y / C
    h, along = states(alone, u)
    t = int(np.argmax(np.abs(h[:, channel, n])))
    np.testing.assert_allclose(abs(h[t, channel, n]), replayed.measured, rtol=1e-6)
    state, drive = np.float16(0), along.B[..., 0] * alone.core_input(u)
    with np.errstate(over="ignore"):
        for pole, x in zip(np.exp(along.log_poles[:, channel, n]), drive[:, channel, n], strict=True):
            state = np.float16(np.float16(np.float16(pole) * state) + np.float16(x))
            if np.isinf(state):
                break
    assert np.isinf(state)  # really in fp16


def test_a_pole_that_rounds_to_one_does_so_in_three_ways():
    torch = pytest.importorskip("torch")
    layer = LAYERS["s6"]()
    refuted = by_property(layer, input_radius=2.0, dtypes=["bf16"])["pole_inside:bf16"]
    assert refuted.verdict == "refuted"
    assert refuted.witness.replay().measured == 1.0
    u, index = np.asarray(refuted.witness.u), refuted.witness.index
    mu = layer.map(torch.tensor).along(torch.tensor(u)).log_poles[(slice(None), *index)]
    assert float(torch.max(torch.exp(mu.to(torch.float32)).to(torch.bfloat16))) == 1.0
    with flint.ctx.workprec(BITS):
        largest = max(flint.arb(float(x)).exp() for x in mu)
        assert largest > 1 - flint.arb(2) ** -9  # the midpoint between 1 and the number below it
