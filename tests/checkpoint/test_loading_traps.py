"""Checkpoints that look right and mean something else: wrapped configurations, quantized weights, copies of an optimizer."""

import copy
import pickle

import numpy as np
import pytest

from ssm_analysis import FAMILIES, CheckpointError, load

MAMBA2 = FAMILIES["mamba2"].init(d_model=16, headdim=4, n_groups=2, d_state=4)
S6 = FAMILIES["s6"].init(d_model=8)
LRU = FAMILIES["lru"].init(d_model=4, d_state=4)


def below(prefix, layer, **changes):
    return {prefix + name: x for name, x in {**layer.params, **changes}.items()}


@pytest.mark.parametrize(
    ("config", "groups", "low"),
    [
        ({"model_type": "nemotron_h_omni", "text_config": {"model_type": "nemotron_h", "n_groups": 2, "time_step_min": 0.05}}, 2, 0.05),
        ({"model_type": "nemo_speechlm", "llm": {"model_type": "nemotron_h", "n_groups": 4, "time_step_min": 0.02}}, 4, 0.02),
        ({"model_type": "nemotron_h", "mamba_n_groups": 2, "mamba_dt_min": 0.05}, 2, 0.05),
        ({"model_type": "nemotron_h", "time_step_min": None}, 8, 1e-3),
        ({"wrapped": {"model_type": "mamba2"}}, 8, 0.0),
    ],
    ids=["omni", "speech", "other names", "null", "mamba2 inside"],
)
def test_the_configuration_of_an_inner_model_counts(config, groups, low):
    (layer,) = load(below("language_model.backbone.layers.0.mixer.", MAMBA2), config=config).values()
    assert layer.assumptions["n_groups"].value == groups
    assert layer.assumptions["time_step_limit"].value == (low, np.inf)


@pytest.mark.parametrize(("inner", "epsilon"), [({}, 1e-6), ({"mixer_rms_eps": 1e-3}, 1e-3)])
def test_a_wrapped_falcon_mamba_normalizes(inner, epsilon):
    (layer,) = load(dict(S6.params), config={"text_config": {"model_type": "falcon_mamba", **inner}}).values()
    assert layer.assumptions["mixer_rms_eps"].value == epsilon


@pytest.mark.parametrize("scale", ["in_proj.weight_scale", "in_proj.weight_scale_inv", "in_proj.SCB", "in_proj.weight.absmax"])
def test_quantized_weights_are_refused(scale):
    with pytest.raises(
        CheckpointError, match=rf"'in_proj.weight': is quantized, '{scale}' stands beside it; store the weights in 16 or 32"
    ):
        load({**S6.params, scale: np.ones(1)})


def test_integers_of_8_bits_are_taken_for_quantized():
    with pytest.raises(CheckpointError, match="'nu_log': is quantized, it is stored as int8"):
        load(below("", LRU, nu_log=np.ones(4, np.int8)))


def test_other_integers_are_lifted():
    layer = load(below("", LRU, theta_log=np.array([2, 1, 0, 1], np.int16)))[""]
    assert layer.params["theta_log"].dtype == np.float64
    np.testing.assert_array_equal(layer.params["theta_log"], [2, 1, 0, 1])


def test_the_moments_of_an_optimizer_are_no_layers():
    state = below("params/encoder/seq/", LRU) | below("opt_state/inner/0/mu/encoder/seq/", LRU)
    assert list(load(state)) == ["encoder.seq"]


@pytest.mark.parametrize("lost", ["nu_log", "B_re"])
def test_a_layer_that_lacks_a_tensor_is_told(lost):
    tensors = below("a.", LRU) | below("b.", LRU)
    del tensors[f"b.{lost}"]
    with pytest.warns(UserWarning, match=f"not every layer could be loaded: b: looks like minimal-LRU, but lacks '{lost}'"):
        layers = load(tensors)
    assert list(layers) == ["a"]
    assert layers.problems == (f"b: looks like minimal-LRU, but lacks '{lost}'",)


@pytest.mark.parametrize(
    ("assume", "wanted"),
    [
        ({"n_groups": "abc"}, "n_groups must be a positive whole number, got 'abc' from the caller"),
        ({"n_groups": 0}, "n_groups must be a positive whole number, got 0 from the caller"),
        ({"time_step_limit": 0.1}, "time_step_limit must be two numbers with 0 <= low <= high, got 0.1 from the caller"),
    ],
)
def test_numbers_that_an_option_cannot_be(assume, wanted):
    with pytest.raises(ValueError, match=wanted):
        load(dict(MAMBA2.params), assume=assume)


def test_a_list_says_what_a_tuple_says():
    limits = [0.05, np.inf]
    (layer,) = load(dict(MAMBA2.params), config={"time_step_limit": limits, "n_groups": 2}, assume={"time_step_limit": limits}).values()
    found = layer.assumptions["time_step_limit"]
    assert (found.value, found.source, found.note) == ((0.05, np.inf), "caller", "")


def test_the_beginning_of_a_name_means_the_forward_half():
    s5 = FAMILIES["s5"].init(d_model=3, d_state=8)
    C = np.stack([s5.params["C"].real, s5.params["C"].imag], axis=-1)
    stored = {name: s5.params[name] for name in ("Lambda_re", "Lambda_im", "D")} | {
        "C1": C,
        "C2": C,
        "log_step": s5.params["log_step"][:, None],
    }
    stored["B"] = np.stack([s5.params["B"].real, s5.params["B"].imag], axis=-1)
    layers = load({f"encoder.layers_0.seq.{name}": x for name, x in stored.items()})
    assert layers["encoder.layers_0"].name == "encoder.layers_0.seq"


@pytest.mark.parametrize("again", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_layers_travel(again):
    found = again(LRU)
    assert (found.family, found.name, found.options) == (LRU.family, LRU.name, LRU.options)
    for name, x in LRU.params.items():
        np.testing.assert_array_equal(found.params[name], x)


def test_s4_without_its_buffer_takes_the_length_from_the_caller():
    """Parameters alone lose l_kernel; C is then C (I - A^L) for the length that the caller gives, or C itself."""
    native = FAMILIES["s4"].init(d_model=2, d_state=8)
    p = native.params

    def pairs(x):
        return np.stack([x.real, x.imag], axis=-1)

    stored = {f"kernel.{name}": p[name] for name in ("inv_dt", "A_real", "A_imag")} | {"kernel.P": pairs(p["P"]), "kernel.C": pairs(p["C"])}
    stored |= {"kernel.B": pairs(p["B"])[None], "D": p["D"]}
    plain = load(stored)[""]
    np.testing.assert_array_equal(plain.params["C"], p["C"])
    assert np.max(np.abs(load(stored, assume={"l_max": 32})[""].params["C"] - p["C"])) > 0.1
    np.testing.assert_array_equal(
        load(stored, assume={"l_max": 32})[""].params["C"], load(stored | {"kernel.l_kernel": np.asarray(32)})[""].params["C"]
    )
