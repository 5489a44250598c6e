"""How checkpoints store Mamba-2, native and in Hugging Face transformers, and the models that contain it.

The tensors have the same names everywhere; how many groups share B and C, how the step is clamped and what multiplies the projections
stand in config.json, under names that differ:

====================  ==============================================================================================
Mamba-2, native       ssm_cfg: ngroups, dt_limit, d_ssm
Mamba-2, ported       n_groups (8 where it is not written), time_step_limit
Bamba, Granite 4      mamba_n_groups, time_step_limit
Falcon-H1             the same; ssm_in_multiplier, ssm_multipliers
Nemotron-H            n_groups (8 where it is not written); the step is clamped from below at time_step_min, not at time_step_limit
Zamba2                mamba_ngroups; the same clamp
====================  ==============================================================================================

References
----------
state-spaces/mamba, mamba_ssm/modules/mamba2.py; transformers, models/{mamba2, bamba, granitemoehybrid, falcon_h1, nemotron_h, zamba2}.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ssm_analysis.families.s6.layouts import unsupported_activation
from ssm_analysis.families.shared.layouts import Layout, Options, Part, Tensors, section_of

CLAMPED_BELOW = ("nemotron_h", "NemotronH", "zamba2", "Zamba2")
EIGHT_GROUPS = ("mamba2", "nemotron_h", "Mamba2Mixer", "NemotronH")
GROUPS = ("n_groups", "ngroups", "mamba_n_groups", "mamba_ngroups")
TIME_STEP_MIN = 1e-3
"""Lower clamp of the step if config.json does not give one."""


def options_from_config(config: Mapping[str, Any]) -> Options:
    """Return the options that the kind of model implies and its configuration does not list by name."""
    section = section_of(config, (*CLAMPED_BELOW, *EIGHT_GROUPS))
    kinds = (str(section.get("model_type", "")), str(config.get("module_class", "")))
    implied: dict[str, Any] = {}
    if any(kind.startswith(CLAMPED_BELOW) for kind in kinds):
        low = next((section[name] for name in ("time_step_min", "mamba_dt_min") if section.get(name) is not None), TIME_STEP_MIN)
        implied["time_step_limit"] = (float(low), math.inf)
    if not any(name in section for name in GROUPS) and any(kind.startswith(EIGHT_GROUPS) for kind in kinds):
        implied["n_groups"] = 8
    if "mup_vector" in config:  # a live Falcon-H1: one factor for each row of in_proj
        d, groups = config["intermediate_size"], config["n_groups"] * config["ssm_state_size"]
        implied["ssm_multipliers"] = tuple(config["mup_vector"][row] for row in (0, d, 2 * d, 2 * d + groups, 2 * d + 2 * groups))
    return implied


def native(tensors: Tensors, options: Options) -> list[Part]:
    """Decode the native names; if a gated MLP shares in_proj, infer the width of the recurrence from the norm or out_proj."""
    params = {leaf: x for leaf, x in tensors.items() if leaf not in BEHIND}
    own: dict[str, Any] = {"D_has_hdim": len(params["D"]) != len(params["A_log"])}
    width = without_mlp = len(params["in_proj.weight"]) - len(params["conv1d.weight"]) - len(params["A_log"])  # d_ssm + 2 d_mlp
    if "norm.weight" in tensors:
        width = len(tensors["norm.weight"])
    elif "out_proj.weight" in tensors:
        width = 2 * tensors["out_proj.weight"].shape[1] - without_mlp  # it has d_ssm + d_mlp columns
    if width != without_mlp:
        own["d_ssm"] = width
    return [Part(params=params, options=own)]


BEHIND = ("norm.weight", "out_proj.weight")

MAMBA2 = Layout(
    title="Mamba-2",
    family="mamba2",
    shapes={
        "dt_bias": "heads",
        "A_log": "heads",
        "D": "channels",
        "in_proj.weight": "rows d_model",
        "in_proj.bias": "rows",
        "conv1d.weight": "mixed 1 d_conv",
        "conv1d.bias": "mixed",
        "norm.weight": "d_ssm",
    },
    optional=("in_proj.bias", "conv1d.bias"),
    alongside=("out_proj.weight", "out_proj.bias"),
    without=("x_proj.weight", "f_a_proj.weight", "q_proj.weight"),
    options={
        "n_groups": 1,
        "d_ssm": None,
        "time_step_limit": (0.0, math.inf),
        "ssm_in_multiplier": 1.0,
        "ssm_multipliers": (1.0, 1.0, 1.0, 1.0, 1.0),
    },
    aliases={"n_groups": GROUPS[1:], "time_step_limit": ("dt_limit",)},
    configured=options_from_config,
    refuses=unsupported_activation,
    decode=native,
)
WITHOUT_NORM = replace(
    MAMBA2,
    title="Mamba-2 without a norm",
    shapes={**{leaf: axes for leaf, axes in MAMBA2.shapes.items() if leaf != "norm.weight"}, "out_proj.weight": "d_model d_inner"},
    optional=(*MAMBA2.optional, "out_proj.weight"),
    alongside=("out_proj.bias",),
)
LAYOUTS = (MAMBA2, WITHOUT_NORM)
