"""Models of transformers, small and with random weights: live, saved and loaded by path, and their mixers alone.

What the scan of each mixer returns inside the running model is what the system of its layer makes of what enters the mixer.
"""

import importlib
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from ssm_analysis import simulate
from ssm_analysis.checkpoint.loading import load
from tests.families.test_mamba_relatives import SCANS, randomized, relative_error

L = 20
COMMON = {
    "hidden_size": 12, "vocab_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 8,
}  # fmt: skip
HEADS = {"mamba_n_heads": 6, "mamba_d_head": 4, "mamba_d_state": 3, "mamba_n_groups": 2, "mamba_chunk_size": 8}


@dataclass(frozen=True)
class Model:
    """A class of transformers, what its configuration says beyond ``COMMON``, and the names of its layers on disk."""

    package: str
    title: str
    says: dict[str, Any]
    names: list[str]
    live: list[str] = field(default_factory=list)
    """The names inside the live model where they are others."""


MODELS = {
    "mamba": Model("mamba", "Mamba", {"state_size": 3, "time_step_rank": 2}, ["backbone.layers.0.mixer", "backbone.layers.1.mixer"]),
    "falcon_mamba": Model(
        "falcon_mamba", "FalconMamba", {"state_size": 3, "time_step_rank": 2, "mixer_rms_eps": 0.01},
        ["backbone.layers.0.mixer", "backbone.layers.1.mixer"],
    ),
    "jamba": Model(
        "jamba", "Jamba",
        {
            "mamba_d_state": 3, "mamba_dt_rank": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "rms_norm_eps": 0.01,
            "num_hidden_layers": 3,
        },
        ["model.layers.0.mamba", "model.layers.2.mamba"],
    ),
    "zamba": Model(
        "zamba", "Zamba",
        {
            "mamba_d_state": 3, "mamba_dt_rank": 2, "n_mamba_heads": 2, "num_hidden_layers": 5, "attn_layer_period": 2,
            "attn_layer_offset": 1,
        },
        ["model.layers.0.mamba", "model.layers.1.mamba", "model.layers.2.mamba_decoder.mamba", "model.layers.3.mamba",
         "model.layers.4.mamba_decoder.mamba"],
    ),
    "mamba2": Model(
        "mamba2", "Mamba2",
        {"num_heads": 6, "head_dim": 4, "state_size": 3, "n_groups": 2, "chunk_size": 8, "time_step_limit": (0.1, 1.0)},
        ["backbone.layers.0.mixer", "backbone.layers.1.mixer"],
    ),
    "mamba2_unsaid": Model(  # eight groups, and an infinite limit, which config.json has as {"__float__": "Infinity"}
        "mamba2", "Mamba2", {"num_heads": 8, "head_dim": 3, "state_size": 3, "chunk_size": 8},
        ["backbone.layers.0.mixer", "backbone.layers.1.mixer"],
    ),
    "bamba": Model("bamba", "Bamba", HEADS | {"attn_layer_indices": [1]}, ["model.layers.0.mamba"]),
    "granite": Model(
        "granitemoehybrid", "GraniteMoeHybrid",
        HEADS | {"layer_types": ["mamba", "attention"], "num_local_experts": 2, "num_experts_per_tok": 1, "shared_intermediate_size": 8},
        ["model.layers.0.mamba"],
    ),
    "falcon_h1": Model(
        "falcon_h1", "FalconH1",
        HEADS | {"mamba_d_ssm": 24, "ssm_in_multiplier": 1.25, "ssm_multipliers": [0.25, 0.5, 0.75, 1.5, 0.625], "head_dim": 6},
        ["model.layers.0.mamba", "model.layers.1.mamba"],
    ),
    "nemotron_h": Model(
        "nemotron_h", "NemotronH",
        {
            "mamba_num_heads": 6, "mamba_head_dim": 4, "ssm_state_size": 3, "n_groups": 2, "chunk_size": 8, "num_hidden_layers": 3,
            "layers_block_type": ["mamba", "attention", "mamba"], "time_step_min": 0.3, "head_dim": 6,
        },
        ["backbone.layers.0.mixer", "backbone.layers.2.mixer"],
        ["model.layers.0.mixer", "model.layers.2.mixer"],
    ),
    "zamba2": Model(
        "zamba2", "Zamba2",
        {
            "n_mamba_heads": 8, "mamba_d_state": 3, "mamba_ngroups": 4, "chunk_size": 8, "mamba_expand": 2, "num_hidden_layers": 3,
            "layers_block_type": ["mamba", "hybrid", "mamba"], "time_step_min": 0.3, "num_mem_blocks": 1,
        },
        ["model.layers.0.mamba", "model.layers.1.mamba_decoder.mamba", "model.layers.2.mamba"],
    ),
    "recurrent_gemma": Model(
        "recurrent_gemma", "RecurrentGemma", {"lru_width": 8, "num_hidden_layers": 3, "attention_window_size": 8, "head_dim": 6},
        ["model.layers.0.temporal_block.rg_lru", "model.layers.1.temporal_block.rg_lru"],
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def build(model):
    import transformers

    config = getattr(transformers, f"{model.title}Config")(**(COMMON | model.says))
    return randomized(getattr(transformers, f"{model.title}ForCausalLM")(config))


def mixers(net):
    return [part for part in net.modules() if hasattr(part, "A_log") or type(part).__name__ == "RecurrentGemmaRecurrentBlock"]


def run(model, net, monkeypatch):
    """What enters each mixer, (L, hidden_size), and what its scan returns, (L, *batch), in the order of the layers."""
    modeling = importlib.import_module(f"transformers.models.{model.package}.modeling_{model.package}")
    entered, left, handles = [], [], []

    def enters(mixer, args, keywords):
        given = args[0] if args else next(keywords[name] for name in ("hidden_states", "input_states") if name in keywords)
        entered.append(given[0].numpy())
        left.append([])

    for mixer in mixers(net):
        handles.append(mixer.register_forward_pre_hook(enters, with_kwargs=True))
        if model.package == "recurrent_gemma":
            handles.append(mixer.rg_lru.register_forward_hook(lambda part, args, y: left[-1].append(y[0])))
    for name in (name for name in SCANS.values() if hasattr(modeling, name)):
        scan = getattr(modeling, name)

        def spy(*args, z=None, scan=scan, **keywords):
            y = scan(*args, z=None, **keywords)
            left[-1].append(y[0])
            return scan(*args, z=z, **keywords)

        monkeypatch.setattr(modeling, name, spy)
    with torch.no_grad():
        net(torch.arange(L)[None] % COMMON["vocab_size"], use_cache=False)
    for handle in handles:
        handle.remove()
    monkeypatch.undo()
    channels_first = hasattr(modeling, SCANS["s6"])  # Zamba scans head by head
    return entered, [torch.concat(parts).numpy().T if channels_first else parts[0].numpy() for parts in left]


def assert_scans(layers, entered, left):
    assert len(layers) == len(entered) == len(left)
    for layer, u, y in zip(layers, entered, left, strict=True):
        u = u.astype(np.float64)
        assert relative_error(simulate(layer.along(u), layer.core_input(u))[..., 0], y) < 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_a_model(name, tmp_path, monkeypatch):
    model = MODELS[name]
    net = build(model)
    entered, left = run(model, net, monkeypatch)
    live = load(net)
    assert list(live) == (model.live or model.names)
    assert_scans(live.values(), entered, left)
    alone = [layer for mixer in mixers(net) for layer in load(mixer).values()]
    assert_scans(alone, entered, left)
    inside = load(torch.nn.ModuleDict({"net": net, "head": torch.nn.Linear(2, 2)}))
    assert list(inside) == [f"net.{name}" for name in live]
    assert_scans(inside.values(), entered, left)
    net.save_pretrained(tmp_path)
    saved = load(tmp_path)
    assert list(saved) == model.names
    assert_scans(saved.values(), entered, left)
    for one, other in zip(live.values(), saved.values(), strict=True):
        for parameter, x in one.params.items():
            np.testing.assert_array_equal(x, other.params[parameter])


@pytest.mark.parametrize("name", ["mamba", "falcon_h1", "recurrent_gemma"])
def test_a_model_saved_in_half(name, tmp_path, monkeypatch):
    """bfloat16 on disk, 64 bits here: the model run in single precision from the same numbers."""
    model = MODELS[name]
    net = build(model).to(torch.bfloat16)
    net.save_pretrained(tmp_path)
    entered, left = run(model, net.float(), monkeypatch)
    assert_scans(load(tmp_path).values(), entered, left)
