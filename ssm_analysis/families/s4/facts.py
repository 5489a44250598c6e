"""What the doctor and `verify` ask about the parameters of S4."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from ssm_analysis.families.s4.options import Options
from ssm_analysis.families.s4.spectrum import measure_of
from ssm_analysis.families.shared.facts import DeadUnits, Facts, FreshTensor, Params
from ssm_analysis.families.shared.transforms import apply_transform
from ssm_analysis.xp import Array

SECONDS_FOR_64_STATES = 1.3
"""Time of one eigenvalue problem in extended precision, s; twice as many states take eight times as long."""


def width(params: Params, options: Options) -> int:
    """Return the number of features, each of which has a system of its own."""
    return params["inv_dt"].shape[0]


def log_rates(params: Params, options: Options) -> Mapping[str, Array]:
    """Return A_real where it is the logarithm of a decay rate."""
    return {"A_real": params["A_real"]} if options.real_transform == "exp" else {}


def steps(params: Params, options: Options) -> np.ndarray:
    """Return the learned steps."""
    return apply_transform(options.dt_transform, params["inv_dt"])


def fresh(params: Params, options: Options) -> Iterator[FreshTensor]:
    """Yield A if it is the matrix of a HiPPO measure."""
    if "Q" in params or not options.conj_sym:
        return
    try:
        measure = measure_of(params, options)
    except ValueError:
        return
    words = f"HiPPO ({measure}) as at initialization: not trained, or with learning rate 0"
    yield FreshTensor(name="A", words=words, suspicious=False)


def dead_outputs(params: Params, options: Options) -> DeadUnits:
    """Return the features that no output reads."""
    return DeadUnits(dead=np.sum(np.abs(params["C"]), axis=(0, -1)) == 0, unit="channels", why="C is 0")


def spectrum_seconds(params: Params, options: Options) -> float:
    """Estimate the time of the eigenvalue problems: one for each copy of A, or each feature where states have steps of their own."""
    steps = params["inv_dt"].shape
    problems = params["A_real"].shape[0] if steps[1] == 1 else steps[0]
    states = (2 if options.conj_sym else 1) * params["A_real"].shape[1]
    return problems * SECONDS_FOR_64_STATES * math.pow(states / 64, 3)


FACTS = Facts(width=width, log_rates=log_rates, steps=steps, fresh=fresh, dead=dead_outputs, spectrum_seconds=spectrum_seconds)
