"""A layer with its system and its eigenvalues, computed once and handed down to rows, findings, details, precision and pictures."""

from dataclasses import dataclass

from ssm_analysis.families.base import Layer
from ssm_analysis.inspection.poles_of_layers import LayerPoles, layer_poles
from ssm_analysis.systems import LTI
from ssm_analysis.xp import to_numpy


@dataclass(frozen=True, eq=False, kw_only=True)
class ExaminedLayer:
    """A layer in numpy, and what every look at it needs.

    Parameters
    ----------
    layer
        The layer; its parameters are arrays of numpy.
    system
        Its time-invariant system; None for a selective layer, which has one only along an input.
    poles
        Its eigenvalues; of a selective layer those with the step of the bias alone.
    """

    layer: Layer
    system: LTI | None
    poles: LayerPoles


def examine(layer: Layer) -> ExaminedLayer:
    """Return the layer in numpy with its system and its eigenvalues, each computed once.

    Parameters
    ----------
    layer
        The layer, in numpy or torch.

    Examples
    --------
    >>> from ssm_analysis.inspection.examined import examine
    >>> examined = examine(ssm.FAMILIES["lru"].init(d_model=4, d_state=8))
    >>> examined.system.nstates, examined.poles.rates.shape
    (8, (8,))
    """
    layer = layer.map(to_numpy)
    system = None if layer.time_varying else layer.system()
    return ExaminedLayer(layer=layer, system=system, poles=layer_poles(layer, system))
