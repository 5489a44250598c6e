r"""Scale the decay rates A or the steps delta of a selective layer, to predict how far back it would then remember.

    A -> A_scale A              scales log|lambda| and leaves the input weights delta B alone (Mamba Modulation);
    delta -> delta_scale delta  scales log|lambda| and the input weights delta B, since lambda = exp(delta A) (MambaExtend).

Neither changes how the input chooses r, B and C. In a whole model the inputs of the later layers change as well.

References
----------
Lu et al., Mamba Modulation, arXiv 2509.19633 (scales A); Azizi et al., MambaExtend, ICLR 2025 (one scale of delta per layer).
"""

import math
from dataclasses import fields, replace

from ssm_analysis.families import FAMILIES, Assumption, Layer


def slow_down(layer: Layer, *, A_scale: float = 1.0, delta_scale: float = 1.0) -> Layer:
    """Return the layer with A multiplied by ``A_scale`` and delta by ``delta_scale``.

    A scale s below 1 lengthens every time constant by the factor 1/s; a scale above 1 shortens it. To predict the effect
    of such a scale on a text without a run of the model, compare ``receptive_field(slow_down(layer, A_scale=0.5).along(u))``
    with ``receptive_field(layer.along(u))``. An RG-LRU has no step: ``A_scale`` scales its log|a| through the exponent c,
    and its input gain sqrt(1 - |a|^2) follows.

    Parameters
    ----------
    layer
        A layer of a selective family.
    A_scale
        Positive factor of the decay rates, dimensionless. It multiplies a factor that an earlier call has set.
    delta_scale
        Positive factor of the steps, dimensionless. It multiplies a factor that an earlier call has set.

    Returns
    -------
    Layer
        The scaled layer. Options that changed are recorded in its ``assumptions`` with the source "caller".

    Raises
    ------
    ValueError
        If a scale is not positive, the layer does not depend on its input, its family does not say how a layer is slowed
        down, or ``delta_scale`` is given for a family without a step.

    References
    ----------
    Lu et al., Mamba Modulation, arXiv 2509.19633, for A; Azizi et al., MambaExtend, ICLR 2025, for delta.

    Examples
    --------
    >>> from ssm_analysis.studies.length_extension import slow_down
    >>> layer = ssm.FAMILIES["s6"].init(d_model=2)
    >>> slower = slow_down(layer, A_scale=0.5)
    >>> u = np.ones((3, 2))
    >>> bool(np.allclose(slower.along(u).log_poles, layer.along(u).log_poles / 2))
    True
    """
    for name, scale in (("A_scale", A_scale), ("delta_scale", delta_scale)):
        if not 0 < scale < math.inf:
            raise ValueError(f"{name} must be a positive number, got {scale!r}")
    if not layer.time_varying:
        raise ValueError(f"slow_down takes a selective layer, and one of family {layer.family!r} does not depend on its input")
    slowed = FAMILIES[layer.family].facts.slowed
    if slowed is None:
        raise ValueError(f"family {layer.family!r} does not say how its layers are slowed down; give its facts a function `slowed`")
    slower = slowed(layer.params, layer.options, A_scale=A_scale, delta_scale=delta_scale)
    changed = {
        f.name: Assumption(value=value, source="caller")
        for f in fields(slower.options)
        if (value := getattr(slower.options, f.name)) != getattr(layer.options, f.name)
    }
    return replace(layer, params=slower.params, assumptions={**layer.assumptions, **changed})
