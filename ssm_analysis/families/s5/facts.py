"""What the doctor and `verify` ask about the parameters of S5."""

from collections.abc import Iterator

import numpy as np

from ssm_analysis.families.s5.options import Options
from ssm_analysis.families.shared.facts import DeadUnits, Facts, FreshTensor, Params
from ssm_analysis.families.shared.freshness import EXACT


def width(params: Params, options: Options) -> int:
    """Return the number of features in and out."""
    return params["B"].shape[1]


def steps(params: Params, options: Options) -> np.ndarray:
    """Return the learned step of each mode, before it is rescaled."""
    return np.exp(params["log_step"])


def turns(params: Params, options: Options) -> np.ndarray | None:
    """Return the angle by which each mode turns per token; None for the bilinear rule, which warps it instead."""
    if options.discretization == "bilinear":
        return None
    return np.abs(steps(params, options) * options.step_rescale * params["Lambda_im"])


def fresh(params: Params, options: Options) -> Iterator[FreshTensor]:
    """Yield Lambda_re if it is -1/2 everywhere."""
    if np.allclose(params["Lambda_re"], -0.5, rtol=EXACT, atol=0):
        words = "-1/2 everywhere, as at initialization: not trained, or with learning rate 0"
        yield FreshTensor(name="Lambda_re", words=words, suspicious=False)


def dead(params: Params, options: Options) -> DeadUnits:
    """Return the states that nothing enters or nothing reads."""
    none = (np.abs(params["B"]).max(axis=1) == 0) | (np.abs(params["C"]).max(axis=0) == 0)
    return DeadUnits(dead=none, unit="states", why="all weights in or out are 0")


FACTS = Facts(width=width, steps=steps, turns=turns, fresh=fresh, dead=dead)
