"""What the doctor and `verify` ask about the parameters of S4D."""

from collections.abc import Iterator, Mapping

import numpy as np

from ssm_analysis.families.s4d.options import Options
from ssm_analysis.families.shared.facts import DeadUnits, Facts, FreshTensor, Params
from ssm_analysis.families.shared.freshness import EXACT
from ssm_analysis.families.shared.hippo import normal_part
from ssm_analysis.families.shared.transforms import apply_transform
from ssm_analysis.xp import Array


def width(params: Params, options: Options) -> int:
    """Return the number of features, each of which has a system of its own."""
    return params["inv_dt"].shape[0]


def log_rates(params: Params, options: Options) -> Mapping[str, Array]:
    """Return A_real where it is the logarithm of a decay rate."""
    return {"A_real": params["A_real"]} if options.real_transform == "exp" else {}


def steps(params: Params, options: Options) -> np.ndarray:
    """Return the learned steps."""
    return apply_transform(options.dt_transform, params["inv_dt"])


def turns(params: Params, options: Options) -> np.ndarray | None:
    """Return the angle by which each mode turns per token; None for real modes and for the bilinear rule, which warps it instead."""
    if options.disc == "bilinear" or "A_imag" not in params:
        return None
    frequency, step = apply_transform(options.imag_transform, params["A_imag"]), steps(params, options)
    return np.abs(step * np.resize(frequency, (len(step), frequency.shape[1])))


def fresh(params: Params, options: Options) -> Iterator[FreshTensor]:
    """Yield A_imag if it equals that of a named initialization."""
    if "A_imag" not in params or options.imag_transform != "none":
        return
    frequency, n = np.abs(params["A_imag"]), params["A_imag"].shape[-1]
    initializations = {
        "S4D-Lin": np.pi * np.arange(n),
        "S4D-Inv": 2 * n / np.pi * (2 * n / (2 * np.arange(n) + 1) - 1),
        "S4D-LegS": np.sort(-np.imag(normal_part("legs", 2 * n)[0])),
    }
    for name, expected in initializations.items():
        if np.allclose(np.sort(frequency, axis=-1), np.sort(expected), rtol=EXACT, atol=2e-4):  # upstream clamps at 1e-4
            words = f"that of {name} as at initialization: not trained, or with learning rate 0"
            yield FreshTensor(name="A_imag", words=words, suspicious=False)


def dead_outputs(params: Params, options: object) -> DeadUnits:
    """Return the features that no output reads."""
    return DeadUnits(dead=np.sum(np.abs(params["C"]), axis=(0, -1)) == 0, unit="channels", why="C is 0")


FACTS = Facts(width=width, log_rates=log_rates, steps=steps, turns=turns, fresh=fresh, dead=dead_outputs)
