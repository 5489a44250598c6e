"""What the doctor, `verify` and the studies ask about the parameters of RG-LRU."""

from dataclasses import replace

from ssm_analysis.families.rg_lru.options import Options
from ssm_analysis.families.shared.facts import Facts, NormPlace, Params, Slowed

NORM_PLACES = (
    NormPlace(module="recurrent_block", norm="temporal_pre_norm", adds_one=True),
    NormPlace(module="temporal_block", norm="temporal_pre_norm", adds_one=True),
    NormPlace(module="hawk", norm="hawk_norm"),
)
"""Norms in front of the layer in recurrentgemma, its port to transformers, and Hawk."""


def width(params: Params, options: Options) -> int:
    """Return the number of features that enter the block, or a bare recurrence."""
    if "linear_x.weight" in params:
        return params["linear_x.weight"].shape[1]
    return params["a_param"].shape[0] * (2 if "a_imag_param" in params else 1)


def slowed(params: Params, options: Options, *, A_scale: float, delta_scale: float) -> Slowed:
    """Return the layer with log a scaled by ``A_scale``, through c; raise a ValueError for ``delta_scale``, since it has no step."""
    if delta_scale != 1:
        raise ValueError("an RG-LRU has no step delta to scale; scale its decay with A_scale")
    return Slowed(params=params, options=replace(options, c=options.c * A_scale))


FACTS = Facts(width=width, norm_places=NORM_PLACES, slowed=slowed)
