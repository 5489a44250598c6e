"""Certificates of whole models: bounds that attain, models of transformers within them, and refusals that say why."""

import re
import warnings

import numpy as np
import pytest
import torch

from ssm_analysis.certificates import LayerNorm, RMSNorm
from ssm_analysis.certificates.composition import Block, composed, composition_certificates, gated_output, normalized_output
from ssm_analysis.verification.residual_stream import verify_composition
from tests.checkpoint.test_hugging_face import COMMON, MODELS, build
from tests.support.stored_layers import trained

SILU = torch.nn.functional.silu


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def by_property(certificates):
    return {c.property: c for c in certificates}


def block(output, *, weight=1.0, eps=1e-6, name="block"):
    return Block(name=name, output=np.asarray(output, dtype=float), norm_weight=weight, eps=eps)


# one block


def test_a_gated_norm_attains_its_bound(rng):
    """T3, row by row: v = sqrt(d) w W_i / ||w W_i|| with the bias on its side."""
    W, weight, bias = rng.standard_normal((5, 7)), rng.standard_normal(7), rng.standard_normal(5)
    bound = normalized_output(weight=weight, out_weight=W, out_bias=bias)
    for i in range(5):
        row = W[i] * weight
        v = np.sqrt(7) * row / np.linalg.norm(row) * np.sign(bias[i])
        assert np.sqrt(np.mean(v**2)) == pytest.approx(1)
        attained = abs((W @ (weight * v) + bias)[i])
        assert attained <= bound[i] <= attained * (1 + 1e-12)


@pytest.mark.parametrize("centered", [False, True])
def test_no_input_exceeds_the_bound_of_a_gated_block(rng, centered):
    d, inner = 4, 6
    W, W_z = rng.standard_normal((d, inner)), rng.standard_normal((inner, d))
    scan, b_z, b = np.abs(rng.standard_normal(inner)), rng.standard_normal(inner), rng.standard_normal(d)
    weight, shift = rng.standard_normal(d), rng.standard_normal(d)
    norm = LayerNorm(weight=weight, bias=shift) if centered else RMSNorm(weight=weight)
    bound = gated_output(scan=scan, gate_weight=W_z, gate_bias=b_z, norm=norm, out_weight=W, out_bias=b)
    h = torch.tensor(rng.standard_normal((20_000, d)) * 10 ** rng.uniform(-2, 2, (20_000, 1)))
    x = torch.nn.functional.layer_norm(h, (d,), eps=0.0) if centered else h / torch.sqrt(torch.mean(h**2, dim=-1, keepdim=True))
    u = x.numpy() * weight + (shift if centered else 0)
    gate = SILU(torch.tensor(u @ W_z.T + b_z)).numpy()
    y = scan * rng.choice([-1.0, 1.0], (20_000, inner))
    worst = np.max(np.abs((y * gate) @ W.T + b), axis=0)
    assert np.all(worst <= bound)
    assert np.all(bound <= 4 * worst)  # and it is a bound of these, not of anything


def test_one_channel_attains_the_bound(rng):
    """The gate at the end of its range, by an input along its row."""
    row, weight = rng.standard_normal((1, 4)), np.ones(4)
    zero = np.zeros(1)
    bound = gated_output(
        scan=np.asarray([3.0]),
        gate_weight=row,
        gate_bias=zero,
        norm=RMSNorm(weight=weight),
        out_weight=np.asarray([[2.0]] * 4),
        out_bias=np.zeros(4),
    )
    z = np.linalg.norm(row) * 2  # sqrt(4)
    np.testing.assert_allclose(bound, 6 * z / (1 + np.exp(-z)), rtol=1e-12)


# a stack


def test_bounds_add_up():
    found = by_property(composition_certificates([block([1, 2]), block([10, 0.5])], np.asarray([0.25, 0.5]), dtypes=["fp16"]))
    certificate = found["bounded_residual"]
    assert certificate.verdict == "proved"
    np.testing.assert_allclose(certificate.per_channel["after each block, upper"], [0.5, 2.5, 11.25], rtol=1e-12)
    np.testing.assert_allclose(certificate.quantities["largest |x_i|"].upper, 11.25, rtol=1e-12)
    assert found["residual_fits:fp16"].verdict == "proved"


@pytest.mark.parametrize(("size", "verdict"), [(65_000.0, "proved"), (66_000.0, "undecided")])
def test_what_a_format_holds(size, verdict):
    found = by_property(composition_certificates([block([size])], np.zeros(1), dtypes=["fp16", "bf16"]))
    assert found["residual_fits:fp16"].verdict == verdict
    assert found["residual_fits:bf16"].verdict == "proved"
    if verdict == "undecided":
        assert "add up to 66000, and the largest number of fp16 is 65504" in found["residual_fits:fp16"].reason


def test_a_block_without_a_bound_leaves_all_undecided():
    found = composition_certificates([block([1.0]), block([np.inf], name="net.1.mixer")], np.zeros(1), dtypes=["fp16"])
    assert tuple(c.property for c in found) == composed(["fp16"])
    assert {c.verdict for c in found} == {"undecided"}
    assert "block of net.1.mixer adds has no finite bound" in found[0].reason


def test_differences_are_never_promised():
    """Six norms of weight 1 and eps 1e-6: a factor 10^18, and at a floor of 0.1 still 10^6."""
    blocks = [block([1.0])] * 6
    plain, floor = (by_property(composition_certificates(blocks, np.zeros(1), dtypes=[], rms_floor=r)) for r in (None, 0.1))
    for found, words in ((plain, "10^18.0 for the norms of 6 blocks alone"), (floor, "10^6.0 for the norms of 6 blocks alone")):
        assert found["incremental_gain"].verdict == "undecided"
        assert words in found["incremental_gain"].reason
    assert "0.1 or more" in floor["incremental_gain"].reason
    unknown = by_property(composition_certificates([block([1.0], eps=0.0)], np.zeros(1), dtypes=[]))
    assert "there is no finite factor" in unknown["incremental_gain"].reason
    with pytest.raises(ValueError, match=r"rms_floor must be a positive number.*got -1.0"):
        composition_certificates(blocks, np.zeros(1), dtypes=[], rms_floor=-1.0)


# models of transformers


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba", "mamba2"])
def test_hidden_states_of_transformers_stay_below(name, tmp_path):
    net = build(MODELS[name])
    net.save_pretrained(tmp_path)
    certificate = by_property(verify_composition(tmp_path, dtypes=["fp32"]))["bounded_residual"]
    assert certificate.verdict == "proved"
    tokens = torch.randint(COMMON["vocab_size"], (8, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states = net(tokens, output_hidden_states=True, use_cache=False).hidden_states
    bounds = certificate.per_channel["after each block, upper"]
    np.testing.assert_allclose(bounds[0], float(torch.max(torch.abs(net.get_input_embeddings().weight))), rtol=1e-6)
    largest = np.asarray([float(torch.max(torch.abs(x))) for x in states[:-1]])  # after each block; the last is behind the last norm
    assert np.all(largest <= bounds[1:])
    gain = by_property(verify_composition(tmp_path))["incremental_gain"]
    assert re.search(r"10\^\d+\.\d for the norms of 2 blocks alone", gain.reason)  # config.json tells eps
    before = by_property(verify_composition(net.state_dict(), config=net.config.to_dict(), dtypes=["fp32"]))["bounded_residual"]
    np.testing.assert_array_equal(before.per_channel["after each block, upper"], bounds)


@pytest.mark.parametrize("name", ["jamba", "bamba", "nemotron_h", "zamba2", "recurrent_gemma"])
def test_models_with_other_parts_are_undecided(name):
    found = verify_composition(build(MODELS[name]))
    assert {c.verdict for c in found} == {"undecided"}
    assert "attention, feed-forward or other parts add to the residual stream" in found[0].reason


def damaged(change):
    tensors = {name: x.detach().numpy() for name, x in build(MODELS["mamba"]).state_dict().items()}
    change(tensors)
    return verify_composition(tensors)[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop("backbone.layers.1.norm.weight"), "no norm was found in front of backbone.layers.1.mixer"),
        (lambda t: t.pop("backbone.layers.0.mixer.out_proj.weight"), "backbone.layers.0.mixer has no out_proj.weight"),
        (lambda t: t.pop("backbone.embeddings.weight"), "0 tensors named like one"),
        (lambda t: t.update({"backbone.layers.0.mlp.up.weight": np.ones((2, 2))}), "the first is backbone.layers.0.mlp.up.weight"),
        (lambda t: t.update({"adapter.weight": np.ones((2, 2))}), "the first is adapter.weight"),
        (lambda t: t["backbone.embeddings.weight"].fill(np.nan), "NaN or infinite entries in 'backbone.embeddings.weight'"),
        (
            lambda t: t["backbone.layers.1.mixer.out_proj.weight"].fill(np.inf),
            "NaN or infinite entries in 'backbone.layers.1.mixer.out_proj",
        ),
        (lambda t: t["backbone.layers.1.mixer.A_log"].fill(np.nan), "parameter 'A_log' of layer 'backbone.layers.1.mixer' must be finite"),
    ],
)
def test_what_stands_in_the_way_is_said(change, reason):
    certificate = damaged(change)
    assert certificate.verdict == "undecided"
    assert reason in certificate.reason


def test_a_closed_gate_lets_nothing_through():
    """z = 0 for every input: what is left is the bias of out_proj, whatever the scan returns."""
    layer = trained("s6")
    inner = len(layer.params["in_proj.weight"]) // 2
    closed = np.concatenate([layer.params["in_proj.weight"][:inner], np.zeros((inner, 4))])
    tensors = {f"layers.0.mixer.{name}": x for name, x in layer.params.items()} | {"layers.0.mixer.in_proj.weight": closed}
    tensors |= {"layers.0.mixer.out_proj.weight": np.ones((4, inner)), "layers.0.mixer.out_proj.bias": np.asarray([0.0, -3.0, 1.0, 2.0])}
    tensors |= {"layers.0.norm.weight": np.ones(4), "embedding.weight": np.asarray([[1.0, 0.5, 0.0, 0.0], [-2.0, 0.0, 0.0, 1.0]])}
    certificate = by_property(verify_composition(tensors))["bounded_residual"]
    np.testing.assert_allclose(certificate.per_channel["after each block, upper"], [2.0, 3.5], rtol=1e-12)


@pytest.mark.parametrize("config", [{"norm_before_gate": True}, {"ssm_cfg": {"norm_before_gate": True}}])
def test_a_norm_in_front_of_the_gate_is_another_bound(config):
    net = build(MODELS["mamba2"])
    own = {k: v for k, v in net.config.to_dict().items() if k in ("n_groups", "time_step_limit", "model_type")}
    assert verify_composition(net.state_dict(), config=own)[0].verdict == "proved"
    certificate = verify_composition(net.state_dict(), config=own | config)[0]
    assert certificate.verdict == "undecided"
    assert "not the one behind the gate of Mamba-2" in certificate.reason


def test_a_norm_inside_mamba_is_not_known():
    net = build(MODELS["mamba"])
    inner = {f"backbone.layers.{i}.mixer.norm.weight": np.ones(net.config.intermediate_size) for i in range(2)}
    certificate = verify_composition({name: x.detach().numpy() for name, x in net.state_dict().items()} | inner)[0]
    assert certificate.verdict == "undecided"
    assert "has a norm of its own" in certificate.reason
