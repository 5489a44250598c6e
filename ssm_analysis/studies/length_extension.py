r"""What if a selective layer forgot more slowly: its decay rates A, or its steps delta, scaled, to predict its memory along a text.

    A -> A_scale A:               log|lambda| is scaled, the input weights delta B are not (Mamba Modulation);
    delta -> delta_scale delta:   both are, lambda = exp(delta A) and delta B, as in the original code (MambaExtend).

Both leave r, B and C as the input makes them. In a whole model what enters the later layers changes too.

References
----------
Lu et al., Mamba Modulation, arXiv 2509.19633 (spectrum of A); Azizi et al., MambaExtend, ICLR 2025 (one scale of delta per layer).
"""

import math
from dataclasses import fields, replace

from ssm_analysis.families import FAMILIES, Assumption, Layer


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
    slowed = FAMILIES[layer.family].facts.slowed
    if slowed is None:
        raise ValueError(f"the family {layer.family!r} does not say how its layers are slowed down")
    slower = slowed(layer.params, layer.options, A_scale=A_scale, delta_scale=delta_scale)
    changed = {
        f.name: Assumption(value=value, source="caller")
        for f in fields(slower.options)
        if (value := getattr(slower.options, f.name)) != getattr(layer.options, f.name)
    }
    return replace(layer, params=slower.params, assumptions={**layer.assumptions, **changed})
