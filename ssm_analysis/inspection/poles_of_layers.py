"""The eigenvalues of one layer as they can be known without an input, and which matrix they belong to."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Inexact

from ssm_analysis.analyses.spectrum.modes import decay_rates
from ssm_analysis.families import FAMILIES, Layer
from ssm_analysis.systems import LTI
from ssm_analysis.xp import double, to_numpy

PATIENCE = 30.0
"""Seconds for the eigenvalues of one layer, beyond which only what double precision can tell is given."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerPoles:
    """Eigenvalues of the discrete A of one layer."""

    log_poles: Inexact[np.ndarray, "*batch n"]
    matrix: str
    """Which matrix, in words."""
    one_of_each_pair: bool
    """Whether each that is not real stands for its conjugate too."""
    trusted: bool
    """Whether they are those of the matrix. Otherwise they are what double precision makes of a matrix whose eigenvalues it
    cannot tell, and only the largest modulus means something."""

    @property
    def rates(self) -> Float[np.ndarray, " k"]:
        """-log|lambda| of all of them, nats per token."""
        return -np.real(self.log_poles).reshape(-1)


def layer_poles(layer: Layer, system: LTI | None) -> LayerPoles:
    """Return the eigenvalues: of a time-invariant layer those of its A, of a selective one those that its biases alone give.

    Parameters
    ----------
    layer
        The layer.
    system
        ``layer.system()`` where there is one, which need not be made twice.
    """
    if system is None:
        log_poles = to_numpy(double(layer.at_bias()))
        return LayerPoles(log_poles=log_poles, matrix="A with the step of the bias alone", one_of_each_pair=False, trusted=True)
    if FAMILIES[layer.family].facts.spectrum_seconds(layer.params, layer.options) > PATIENCE:
        rates = to_numpy(decay_rates(system))
        return LayerPoles(
            log_poles=-rates,
            matrix="stored A in double precision: only its largest |lambda| is known",
            one_of_each_pair=False,
            trusted=False,
        )
    found = layer.spectrum()
    return LayerPoles(log_poles=to_numpy(found.log_poles), matrix=found.matrix, one_of_each_pair=found.one_of_each_pair, trusted=True)
