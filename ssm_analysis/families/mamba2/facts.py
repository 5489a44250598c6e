"""What the doctor, `verify` and the studies ask about the parameters of Mamba-2."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ssm_analysis.families.mamba2.options import Options
from ssm_analysis.families.s6.facts import NORM_PLACES, dead_channels
from ssm_analysis.families.shared.facts import Facts, FreshTensor, Params, Slowed
from ssm_analysis.families.shared.freshness import fresh_feedthrough, fresh_log_rates, fresh_step_bias
from ssm_analysis.families.shared.transforms import apply_transform
from ssm_analysis.xp import Array


def width(params: Params, options: Options) -> int:
    """Return the number of features that enter the mixer."""
    return params["in_proj.weight"].shape[1]


def log_rates(params: Params, options: Options) -> Mapping[str, Array]:
    """Return A_log, the logarithm of a decay rate per unit of step."""
    return {"A_log": params["A_log"]}


def steps(params: Params, options: Options) -> np.ndarray:
    """Return the step of each head by its bias alone, before it is clamped."""
    return apply_transform("softplus", np.reshape(params["dt_bias"], -1))


def step_limits(options: Options) -> tuple[float, float]:
    """Return the clamp of the step."""
    low, high = options.time_step_limit
    return low, high


def fresh(params: Params, options: Options) -> Iterator[FreshTensor]:
    """Yield the parameters that equal those of a fresh Mamba-2."""
    yield from fresh_log_rates("A_log", params["A_log"][None], "log(1..heads), the initialization of transformers")
    yield from fresh_step_bias("dt_bias", params["dt_bias"])
    yield from fresh_feedthrough(params["D"])


def slowed(params: Params, options: Options, *, A_scale: float, delta_scale: float) -> Slowed:
    """Return the layer with its decay rates A and its steps delta scaled."""
    return Slowed(
        params={**params, "A_log": params["A_log"] + math.log(A_scale)},
        options=replace(options, delta_scale=options.delta_scale * delta_scale),
    )


FACTS = Facts(
    norm_behind_gate="norm.weight",
    width=width,
    log_rates=log_rates,
    steps=steps,
    step_limits=step_limits,
    fresh=fresh,
    dead=dead_channels,
    norm_places=NORM_PLACES,
    slowed=slowed,
)
