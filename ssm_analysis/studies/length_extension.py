r"""What if a selective layer forgot more slowly: its decay rates A, or its steps delta, scaled, to predict its memory along a text.

    A -> A_scale A:               log|lambda| is scaled, the input weights delta B are not (Mamba Modulation);
    delta -> delta_scale delta:   both are, lambda = exp(delta A) and delta B, as in the original code (MambaExtend).

Both leave r, B and C as the input makes them. In a whole model what enters the later layers changes too.

References
----------
Lu et al., Mamba Modulation, arXiv 2509.19633 (spectrum of A); Azizi et al., MambaExtend, ICLR 2025 (one scale of delta per layer).
"""

import math
from dataclasses import replace

from ssm_analysis.families.base import Assumption, Layer


def extended(layer: Layer, *, A_scale: float = 1.0, delta_scale: float = 1.0) -> Layer:
    """The layer with A times ``A_scale`` and delta times ``delta_scale``: below 1 it remembers longer, by the same factor.

    Same as calibrating one scale per layer for longer texts, without a run of the model: compare
    ``receptive_field(extended(layer, A_scale=0.5).along(u))`` with that of the layer. An RG-LRU has no step; its log|a| is
    scaled by ``A_scale`` through c, and its input gain sqrt(1 - |a|^2) goes along.

    Parameters
    ----------
    layer
        Of a selective family.
    A_scale, delta_scale
        Positive numbers; those of a layer that was extended before are multiplied.

    Raises
    ------
    ValueError
        If a scale is not positive, the layer does not depend on its input, or has no step to scale.

    Examples
    --------
    >>> from ssm_analysis.studies.length_extension import extended
    >>> layer = ssm.FAMILIES["s6"].init(d_model=2)
    >>> slower = extended(layer, A_scale=0.5)
    >>> u = np.ones((3, 2))
    >>> bool(np.allclose(slower.along(u).log_poles, layer.along(u).log_poles / 2))
    True
    """
    for name, scale in (("A_scale", A_scale), ("delta_scale", delta_scale)):
        if not 0 < scale < math.inf:
            raise ValueError(f"{name} must be a positive number, got {scale!r}")
    if not layer.time_varying:
        raise ValueError(f"extended is about selective layers, and one of family {layer.family!r} does not depend on its input")
    if "A_log" in layer.params:
        slower = replace(layer, params={**layer.params, "A_log": layer.params["A_log"] + math.log(A_scale)})
        return _with_option(slower, "delta_scale", layer.options.get("delta_scale", 1.0) * delta_scale)
    if delta_scale != 1:
        raise ValueError(f"a layer of family {layer.family!r} has no step delta to scale; scale its decay with A_scale")
    return _with_option(layer, "c", layer.options.get("c", 8.0) * A_scale)


def _with_option(layer: Layer, name: str, value: float) -> Layer:
    return replace(layer, assumptions={**layer.assumptions, name: Assumption(value=value, source="caller")})
