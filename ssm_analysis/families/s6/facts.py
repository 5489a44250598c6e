"""What the doctor, `verify` and the studies ask about the parameters of S6."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ssm_analysis.families.s6.options import Options
from ssm_analysis.families.shared.facts import DeadUnits, Facts, FreshTensor, NormPlace, OutputGate, Params, Slowed
from ssm_analysis.families.shared.freshness import fresh_feedthrough, fresh_log_rates, fresh_step_bias
from ssm_analysis.families.shared.transforms import apply_transform
from ssm_analysis.xp import Array

NORM_PLACES = (NormPlace(module="mixer", norm="norm"), NormPlace(module="mamba", norm="input_layernorm"))
"""Norms in front of the layer: the first in Mamba, Mamba-2, Falcon-Mamba and Nemotron-H, the second in Jamba, Zamba, Zamba-2, Bamba,
Falcon-H1 and Granite. A name with different meanings in different models (``norm`` beside ``mamba``) is left out."""


def width(params: Params, options: Options) -> int:
    """Return the number of features that enter the mixer."""
    return params["in_proj.weight"].shape[1]


def log_rates(params: Params, options: Options) -> Mapping[str, Array]:
    """Return A_log, the logarithm of a decay rate per unit of step."""
    return {"A_log": params["A_log"]}


def steps(params: Params, options: Options) -> np.ndarray:
    """Return the step of each channel by its bias alone."""
    return apply_transform("softplus", np.reshape(_step_bias(params), -1)) + options.dt_offset


def fresh(params: Params, options: Options) -> Iterator[FreshTensor]:
    """Yield the parameters that equal those of a fresh Mamba."""
    A_log = params["A_log"]
    words = "log(1..d_state) in every channel, the initialization of Mamba"
    yield from fresh_log_rates("A_log", A_log.reshape(-1, A_log.shape[-1]), words)
    yield from fresh_step_bias("dt_proj.bias", _step_bias(params))
    yield from fresh_feedthrough(params["D"])


def dead_channels(params: Params, options: object) -> DeadUnits:
    """Return the channels whose convolution passes nothing on."""
    taps = np.abs(params["conv1d.weight"]).reshape(len(params["conv1d.weight"]), -1)
    return DeadUnits(dead=taps.max(axis=1) == 0, unit="channels", why="the taps of the convolution are 0")


def output_gate(params: Params, options: Options) -> OutputGate | None:
    """Return the rows of in_proj after those of x; return None for Zamba, which interleaves both."""
    if "x_proj_weight" in params:
        return None
    weight = params["in_proj.weight"]
    inner = len(weight) // 2
    bias = params.get("in_proj.bias", np.zeros(2 * inner))
    return OutputGate(weight=weight[inner:], bias=bias[inner:])


def slowed(params: Params, options: Options, *, A_scale: float, delta_scale: float) -> Slowed:
    """Return the layer with its decay rates A and its steps delta scaled."""
    return Slowed(
        params={**params, "A_log": params["A_log"] + math.log(A_scale)},
        options=replace(options, delta_scale=options.delta_scale * delta_scale),
    )


def _step_bias(params: Params) -> np.ndarray:
    return next(params[name] for name in ("dt_proj.bias", "dt_proj_bias") if name in params)


FACTS = Facts(
    width=width,
    log_rates=log_rates,
    steps=steps,
    fresh=fresh,
    dead=dead_channels,
    norm_places=NORM_PLACES,
    output_gate=output_gate,
    slowed=slowed,
)
