"""How checkpoints store S6: Mamba, native and in Hugging Face transformers, and its relatives.

====================  ==============================================================================================
Mamba, Falcon-Mamba   one set of names; that r, B and C are normalized (Falcon-Mamba) stands in config.json alone
Jamba                 the same and the weights of three norms; their epsilon stands in config.json
Zamba                 x_proj_weight, dt_proj_weight, dt_proj_bias with an axis for the heads
bidirectional Mamba   a second set for the reverse direction, A_b_log, conv1d_b, ..., behind one in_proj (Vision Mamba, bimamba v2)
====================  ==============================================================================================

References
----------
state-spaces/mamba, mamba_ssm/modules/mamba_simple.py; transformers, models/{mamba, falcon_mamba, jamba, zamba};
hustvl/Vim, mamba_simple.py.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ssm_analysis.families.shared.layouts import REVERSE, Layout, Options, Part, Tensors, nothing, section_of

DEFAULT_EPSILON = 1e-6
"""Epsilon of the norms of r, B and C in Falcon-Mamba and Jamba."""
FALCON = ("falcon_mamba", "FalconMamba")
SILU = ("silu", "swish")


def unsupported_activation(config: Mapping[str, Any]) -> str:
    """Return why a model is no S6 if the activation of its mixer is not SiLU; empty if it is. The first name that is there counts."""
    of_mixer = [name for name in ("hidden_mamba_act", "mamba_hidden_act", "activation", "hidden_act") if isinstance(config.get(name), str)]
    if of_mixer and config[of_mixer[0]] not in SILU and config.get("model_type") != "zamba2":  # whose hidden_act is that of its MLP
        return f"{of_mixer[0]} is {config[of_mixer[0]]!r}, and only silu is supported as the activation of Mamba"
    return ""


def options_from_config(config: Mapping[str, Any]) -> Options:
    """Return the epsilon of Falcon-Mamba if its configuration leaves it out; only its name says that it normalizes r, B and C."""
    section = section_of(config, FALCON)
    names = (str(section.get("model_type", "")), str(config.get("module_class", "")))
    said = {"mixer_rms_eps", "rms_eps"} & {*section, *config}
    return {"mixer_rms_eps": DEFAULT_EPSILON} if any(name.startswith(FALCON) for name in names) and not said else {}


def bidirectional(tensors: Tensors, options: Options) -> list[Part]:
    """Decode two recurrences behind one in_proj; the reverse one reads the signal from its end."""
    shared = {leaf: x for leaf, x in tensors.items() if leaf.startswith("in_proj")}
    forward = {leaf: x for leaf, x in tensors.items() if leaf in SHAPES}
    reverse = {leaf: tensors[theirs] for leaf, theirs in REVERSED.items() if theirs in tensors}
    return [Part(params=forward), Part(params={**shared, **reverse}, suffix=REVERSE)]


SHAPES = {
    "A_log": "d_inner d_state",
    "D": "d_inner",
    "in_proj.weight": "2*d_inner d_model",
    "in_proj.bias": "2*d_inner",
    "conv1d.weight": "d_inner 1 d_conv",
    "conv1d.bias": "d_inner",
    "x_proj.weight": "dt_rank+2*d_state d_inner",
    "x_proj.bias": "dt_rank+2*d_state",
    "dt_proj.weight": "d_inner dt_rank",
    "dt_proj.bias": "d_inner",
}
BIASES = ("in_proj.bias", "conv1d.bias", "x_proj.bias")
REVERSED = {
    "A_log": "A_b_log", "D": "D_b", "conv1d.weight": "conv1d_b.weight", "conv1d.bias": "conv1d_b.bias",
    "x_proj.weight": "x_proj_b.weight", "x_proj.bias": "x_proj_b.bias",
    "dt_proj.weight": "dt_proj_b.weight", "dt_proj.bias": "dt_proj_b.bias",
}  # fmt: skip
OUT = ("out_proj.weight", "out_proj.bias")

MAMBA = Layout(
    title="Mamba",
    family="s6",
    shapes=SHAPES,
    optional=BIASES,
    alongside=OUT,
    without=("A_b_log", "dt_layernorm.weight"),
    options={"mixer_rms_eps": None, "conv_padding": "causal", "dt_offset": 0.0},
    choices={"conv_padding": ("causal", "same")},
    aliases={"mixer_rms_eps": ("rms_eps",)},
    configured=options_from_config,
    refuses=unsupported_activation,
)
BIMAMBA = replace(
    MAMBA,
    title="Mamba in two directions",
    shapes={"A_b_log": "d_inner d_state", **SHAPES, **{theirs: SHAPES[ours] for ours, theirs in REVERSED.items()}},
    optional=(*BIASES, "conv1d_b.bias", "x_proj_b.bias"),
    without=(),
    decode=bidirectional,
)
JAMBA = replace(
    MAMBA,
    title="Jamba",
    shapes={"dt_layernorm.weight": "dt_rank", "b_layernorm.weight": "d_state", "c_layernorm.weight": "d_state", **SHAPES},
    without=(),
    options={**MAMBA.options, "mixer_rms_eps": DEFAULT_EPSILON},
    aliases={"mixer_rms_eps": ("rms_norm_eps", "variance_epsilon")},
    configured=nothing,
)
ZAMBA = Layout(
    title="Zamba",
    family="s6",
    shapes={
        "x_proj_weight": "heads dt_rank+2*d_state channels",
        "dt_proj_weight": "heads channels dt_rank",
        "dt_proj_bias": "heads channels",
        "A_log": "heads channels d_state",
        "D": "heads channels",
        "in_proj.weight": "rows d_model",
        "in_proj.bias": "rows",
        "conv1d.weight": "d_inner 1 d_conv",
        "conv1d.bias": "d_inner",
    },
    optional=("in_proj.bias", "conv1d.bias"),
    alongside=OUT,
    refuses=unsupported_activation,
)
LAYOUTS = (BIMAMBA, JAMBA, ZAMBA, MAMBA)
