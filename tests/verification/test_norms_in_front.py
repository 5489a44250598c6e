"""Which norm stands in front of a layer in a checkpoint: what runs through the models of transformers has its weight and its length."""

import warnings

import numpy as np
import pytest
import torch

import ssm_analysis as ssm
from ssm_analysis.certificates import LayerNorm, RMSNorm
from ssm_analysis.checkpoint.loading import find_layers
from ssm_analysis.families.rg_lru.layouts import GEMMA_FLAX, HAWK
from ssm_analysis.families.s6.layouts import MAMBA
from ssm_analysis.verification.norm_in_front import norm_in_front
from tests.checkpoint.test_hugging_face import MODELS, build, run
from tests.support.torch_blocks import Mamba
from tests.support.verified import verified

SIZES = {
    "d_inner": 6, "d_state": 3, "d_model": 4, "d_conv": 4, "dt_rank": 2, "W": 4, "heads": 2, "block": 2, "taps": 4, "rows": 8,
    "2*d_inner": 12, "dt_rank+2*d_state": 8, "2*W": 8,
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def norms_of(source):
    """(norm, its place) by layer; None where there is none."""
    with find_layers(source) as found:
        return {group.name: norm_in_front(found.store, group, found.read(group)[0]) for group in found.groups}


def tensors_of(layout, rng, prefix):
    """Random tensors that fit a layout."""
    shapes = {leaf: [int(axis) if axis.isdigit() else SIZES[axis] for axis in axes.split()] for leaf, axes in layout.shapes.items()}
    return {prefix + leaf: rng.standard_normal(shape) for leaf, shape in shapes.items()}


def in_front_of(module, norm, rng, layout=MAMBA, parent="net.layers.0"):
    """The place of the norm in a checkpoint of one layer, and the norm."""
    tensors = tensors_of(layout, rng, f"{parent}.{module}.") | {f"{parent}.{name}": x for name, x in norm.items()}
    (found,) = norms_of(tensors).values()
    return found


@pytest.mark.parametrize("name", MODELS)
def test_what_enters_a_mixer_of_transformers(name, tmp_path, monkeypatch):
    """Random weights, so that the right one alone leaves vectors whose mean square is 1 (less by the eps of the norm) at every token."""
    model = MODELS[name]
    net = build(model)
    with torch.no_grad():
        net.get_input_embeddings().weight.mul_(100)  # far above the eps
    entered, left = run(model, net, monkeypatch)
    net.save_pretrained(tmp_path)
    norms = norms_of(tmp_path)
    assert list(norms) == model.names
    for found, u in zip(norms.values(), entered, strict=True):
        assert isinstance(found.norm, RMSNorm)
        np.testing.assert_allclose(np.mean((u / found.norm.weight) ** 2, axis=-1), 1, atol=1e-2)
    live = norms_of(net)
    for one, other in zip(live.values(), norms.values(), strict=True):
        np.testing.assert_array_equal(one.norm.weight, other.norm.weight)
    assert_within(ssm.verify(tmp_path, dtypes=()), ssm.load(tmp_path), entered, left)


def assert_within(certificates, layers, entered, left):
    """Outputs of the scan of transformers, and the rates along what entered, lie where the certificates say."""
    for layer, u, y in zip(layers.values(), entered, left, strict=True):
        found = {c.property: c for c in certificates[layer.name]}
        bound = found["bounded_output"]
        assert bound.verdict == "proved"
        assert np.all(np.max(np.abs(y), axis=0) <= bound.per_channel["upper"] * (1 + 1e-4))  # transformers runs in 32 bits
        rates = ssm.spectrum.decay_rates(layer.along(u.astype(np.float64)))
        assert np.all(np.min(rates, axis=(0, -1)) >= found["uniform_exponential_stability"].per_channel["slowest rate"])


def test_a_layer_norm_of_a_module_of_ones_own():
    torch.manual_seed(0)
    block = torch.nn.Module()
    block.norm, block.mixer = torch.nn.LayerNorm(4, eps=0.0), Mamba(4, 6, 3)
    with torch.no_grad():
        block.norm.weight.normal_()
        block.norm.bias.normal_()
        x = torch.randn(20, 4, dtype=torch.float64)
        u = block.norm.double()(x).numpy()
    (found,) = norms_of(block).values()
    assert found.place == "norm.weight"
    assert isinstance(found.norm, LayerNorm)
    centered = x.numpy() - np.mean(x.numpy(), axis=-1, keepdims=True)
    ball = centered / np.sqrt(np.mean(centered**2, axis=-1, keepdims=True))
    np.testing.assert_allclose(found.norm.weight * ball + found.norm.bias, u, atol=1e-10)


def test_recurrentgemma_stores_the_weight_less_one(rng):
    scale = rng.standard_normal(4)
    found = in_front_of("recurrent_block", {"temporal_pre_norm.scale": scale}, rng, GEMMA_FLAX)
    assert found.place == "net.layers.0.temporal_pre_norm.scale"
    np.testing.assert_array_equal(found.norm.weight, 1 + scale)


def test_slashes_between_the_names(rng):
    tensors = tensors_of(GEMMA_FLAX, rng, "blocks.0.recurrent_block.") | {"blocks.0.temporal_pre_norm.scale": np.ones(4)}
    (found,) = norms_of({name.replace(".", "/"): x for name, x in tensors.items()}).values()
    assert found.place == "blocks/0/temporal_pre_norm/scale"
    np.testing.assert_array_equal(found.norm.weight, 2)


def test_hawk_multiplies_by_its_gamma(rng):
    tensors = {name: np.full_like(x, -8.0) if "alpha" in name else x for name, x in tensors_of(HAWK, rng, "hawk.").items()}
    (found,) = norms_of(tensors | {"hawk_norm.gamma": np.arange(1.0, 5)}).values()
    assert found.place == "hawk_norm.gamma"
    np.testing.assert_array_equal(found.norm.weight, np.arange(1.0, 5))


@pytest.mark.parametrize(
    ("module", "norm"),
    [
        ("mixer", {}),
        ("mixer", {"norm.weight": np.ones(5)}),  # of another width
        ("mixer", {"norm.weight": np.ones((4, 1))}),
        ("mamba", {"norm.weight": np.ones(4)}),  # in front in some models, behind in others
        ("mixer", {"input_layernorm.weight": np.ones(4)}),
        ("ssm", {"norm.weight": np.ones(4)}),
    ],
)
def test_no_norm_in_a_place_that_is_known(rng, module, norm):
    assert in_front_of(module, norm, rng) is None


@pytest.mark.parametrize("leaf", ["weight", "bias"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_norm_makes_its_layer_invalid(rng, leaf, value):
    tensors = tensors_of(MAMBA, rng, "mixer.") | {"norm.weight": np.ones(4), "norm.bias": np.zeros(4)}
    tensors[f"norm.{leaf}"][2] = value
    (certificates,) = verified(tensors).values()
    assert {c.verdict for c in certificates} == {"invalid"}
    assert f"NaN or infinite entries in 'norm.{leaf}', the norm in front" in certificates[0].reason


def test_the_place_is_among_the_assumptions(rng):
    tensors = tensors_of(MAMBA, rng, "net.layers.0.mixer.") | {"net.layers.0.norm.weight": np.ones(4)}
    (certificates,) = verified(tensors).values()
    bounded = next(c for c in certificates if c.property == "bounded_state")
    assert "the input of the layer comes from a RMSNorm, net.layers.0.norm.weight of the checkpoint" in "; ".join(bounded.assumptions)


def test_a_norm_by_the_name_that_it_has_in_a_model_of_ones_own(rng):
    tensors = tensors_of(MAMBA, rng, "blocks.3.ssm.") | {"blocks.3.ln.weight": np.arange(1.0, 5), "blocks.3.ln.bias": np.ones(4)}
    with find_layers(tensors) as found:
        (group,) = found.groups
        layer = found.read(group)[0]
        assert norm_in_front(found.store, group, layer) is None
        named = norm_in_front(found.store, group, layer, name="ln")
    assert named.place == "blocks.3.ln.weight"
    np.testing.assert_array_equal(named.norm.weight, np.arange(1.0, 5))
    np.testing.assert_array_equal(named.norm.bias, np.ones(4))
    for name, verdict in (("ln", "proved"), ("norm", "undecided")):
        (certificates,) = verified(tensors, norm_name=name).values()
        assert {c.property: c.verdict for c in certificates}["bounded_state"] == verdict


def test_a_norm_in_front_of_a_layer_without_projection(rng):
    layer = ssm.FAMILIES["lru"].init(d_model=4, d_state=8)
    tensors = {f"encoder.seq.{name}": x for name, x in layer.params.items()} | {
        "encoder.norm.scale": np.full(4, 2.0),
        "encoder.norm.bias": np.zeros(4),
    }
    for name, verdict in (("norm", "proved"), (None, "undecided")):
        (certificates,) = verified(tensors, norm_name=name).values()
        assert {c.property: c.verdict for c in certificates}["no_overflow:fp32"] == verdict
