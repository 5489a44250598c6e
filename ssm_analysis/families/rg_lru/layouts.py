"""How checkpoints store RG-LRU: recurrentgemma in torch and flax, its port to Hugging Face transformers, and Hawk.

===================  ===============================================================================================
recurrentgemma       names are native; in flax linear_x.kernel is the transposed weight, and a_imag_param makes the state complex
transformers         recurrent_param is a_param, recurrent_gate_weight is a_gate.w; the convolution is (W, 1, taps)
Hawk                 ssm-benchmark and hippogriff: dense gates, forget before input; input.weight holds the gate of the block, then x
===================  ===============================================================================================

References
----------
google-deepmind/recurrentgemma; transformers, models/recurrent_gemma; jsie7/ssm-benchmark, models/hawk.py.
"""

from dataclasses import replace

import numpy as np

from ssm_analysis.families.shared.layouts import Layout, Options, Part, Tensors

LRU = "rg_lru."
HAWK_EPSILON = 1e-6
"""The constant that Hawk adds under the root of the input gain."""


def gemma_block(tensors: Tensors, options: Options) -> list[Part]:
    """Decode recurrentgemma with the linear map and the convolution in front of the recurrence."""
    params = {leaf.removeprefix(LRU): x for leaf, x in tensors.items()}
    if "linear_x.kernel" in params:
        params["linear_x.weight"] = params.pop("linear_x.kernel").T
    return [Part(params=params)]


def transformers(tensors: Tensors, options: Options) -> list[Part]:
    """Decode the port to transformers, with or without the block around the recurrence."""
    t = {leaf.removeprefix(LRU): x for leaf, x in tensors.items()}
    params = {ours: t[theirs] for ours, theirs in TRANSFORMERS.items()}
    if "linear_x.weight" in t:
        params |= {"linear_x.weight": t["linear_x.weight"], "linear_x.bias": t["linear_x.bias"]}
        params |= {"conv_1d.w": t["conv_1d.weight"][:, 0].T, "conv_1d.b": t["conv_1d.bias"]}
    return [Part(params=params)]


def hawk(tensors: Tensors, options: Options) -> list[Part]:
    """Decode Hawk, which stores -c as a tensor."""
    W = len(tensors["forget_base"])
    forget, enter = np.split(tensors["gates.weight"], 2)
    params = {
        "a_param": tensors["forget_base"],
        "a_gate.w": forget.T[None],
        "a_gate.b": tensors["gates.bias"][None, :W],
        "input_gate.w": enter.T[None],
        "input_gate.b": tensors["gates.bias"][None, W:],
        "linear_x.weight": tensors["input.weight"][W:],
        "linear_x.bias": np.zeros(W),
        "conv_1d.w": tensors["conv.weight"][:, 0].T,
        "conv_1d.b": tensors["conv.bias"],
    }
    return [Part(params=params, options={"c": -float(tensors["alpha_log_scale"].reshape(()))})]


TRANSFORMERS = {
    "a_param": "recurrent_param",
    "a_gate.w": "recurrent_gate_weight",
    "a_gate.b": "recurrent_gate_bias",
    "input_gate.w": "input_gate_weight",
    "input_gate.b": "input_gate_bias",
}
BARE = {
    "a_param": "W",
    "a_gate.w": "heads block block",
    "a_gate.b": "heads block",
    "input_gate.w": "heads block block",
    "input_gate.b": "heads block",
}
COMPLEX = {
    "a_imag_param": "S",
    "a_param": "S",
    "a_gate.w": "heads block half",
    "a_gate.b": "heads half",
    "input_gate.w": "heads block half",
    "input_gate.b": "heads half",
}
BLOCK = {"linear_x.bias": "W", "conv_1d.w": "taps W", "conv_1d.b": "W"}
IN_FRONT = ("linear_x.weight", "linear_x.kernel", "linear_x.bias", "conv_1d.w", "conv_1d.b", "conv_1d.weight", "conv_1d.bias")
GEMMA_FIXED = {"c": 8.0, "epsilon": 0.0, "reset_first": True}

GEMMA = Layout(
    title="recurrentgemma, block",
    family="rg_lru",
    shapes={**{LRU + leaf: axes for leaf, axes in BARE.items()}, "linear_x.weight": "W d_model", **BLOCK},
    in_front=IN_FRONT,
    without=(LRU + "a_imag_param",),
    fixed=GEMMA_FIXED,
    decode=gemma_block,
)
GEMMA_FLAX = replace(
    GEMMA,
    title="recurrentgemma in flax, block",
    shapes={**{LRU + leaf: axes for leaf, axes in BARE.items()}, "linear_x.kernel": "d_model W", **BLOCK},
)
GEMMA_BARE = Layout(title="recurrentgemma, recurrence", family="rg_lru", shapes=BARE, without=("a_imag_param",), fixed=GEMMA_FIXED)
COMPLEX_BLOCK = replace(
    GEMMA_FLAX,
    title="recurrentgemma in flax, complex block",
    shapes={
        **{LRU + leaf: axes for leaf, axes in COMPLEX.items()},
        "linear_x.kernel": "d_model 2*S", "linear_x.bias": "2*S", "conv_1d.w": "taps 2*S", "conv_1d.b": "2*S",
    },
    without=(),
)  # fmt: skip
COMPLEX_BARE = replace(GEMMA_BARE, title="recurrentgemma in flax, complex recurrence", shapes=COMPLEX, without=())
HUGGING_FACE_BARE = Layout(
    title="transformers RecurrentGemma, recurrence",
    family="rg_lru",
    shapes={theirs: BARE[ours] for ours, theirs in TRANSFORMERS.items()},
    fixed=GEMMA_FIXED,
    decode=transformers,
)
HUGGING_FACE = replace(
    HUGGING_FACE_BARE,
    title="transformers RecurrentGemma",
    in_front=IN_FRONT,
    shapes={
        **{LRU + theirs: BARE[ours] for ours, theirs in TRANSFORMERS.items()},
        "linear_x.weight": "W d_model", "linear_x.bias": "W", "conv_1d.weight": "W 1 taps", "conv_1d.bias": "W",
    },
)  # fmt: skip
HAWK = Layout(
    title="Hawk of ssm-benchmark and hippogriff",
    family="rg_lru",
    shapes={
        "forget_base": "W", "alpha_log_scale": "1", "input.weight": "2*W d_model", "conv.weight": "W 1 taps", "conv.bias": "W",
        "gates.weight": "2*W W", "gates.bias": "2*W",
    },
    alongside=("output.weight",),
    fixed={"epsilon": HAWK_EPSILON, "reset_first": False},
    decode=hawk,
)  # fmt: skip
LAYOUTS = (GEMMA, GEMMA_FLAX, COMPLEX_BLOCK, HUGGING_FACE, GEMMA_BARE, COMPLEX_BARE, HUGGING_FACE_BARE, HAWK)
