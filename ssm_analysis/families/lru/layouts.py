"""How checkpoints store LRU: minimal-LRU, whose names are native, and modules with complex B and C.

References
----------
NicolasZucchet/minimal-LRU, lru/model.py.
"""

from dataclasses import replace

import numpy as np

from ssm_analysis.families.shared.layouts import Layout, Options, Part, Tensors, complex_pairs

SHAPES = {"nu_log": "N", "theta_log": "N", "gamma_log": "N", "B_re": "N H", "B_im": "N H", "C_re": "H N", "C_im": "H N", "D": "H"}


def complex_weights(tensors: Tensors, options: Options) -> list[Part]:
    """Decode B and C that are stored as complex arrays, or as pairs of real and imaginary parts."""
    B, C = complex_pairs(tensors["B"]), complex_pairs(tensors["C"])
    params = {name: tensors[name] for name in ("nu_log", "theta_log", "gamma_log", "D")}
    return [Part(params={**params, "B_re": np.real(B), "B_im": np.imag(B), "C_re": np.real(C), "C_im": np.imag(C)})]


MINIMAL = Layout(title="minimal-LRU", family="lru", shapes=SHAPES)
COMPLEX = Layout(
    title="LRU with complex B and C",
    family="lru",
    shapes={"nu_log": "N", "theta_log": "N", "gamma_log": "N", "B": "N H", "C": "H N", "D": "H"},
    decode=complex_weights,
)
PAIRS = replace(COMPLEX, title="LRU with B and C in pairs", shapes={**COMPLEX.shapes, "B": "N H 2", "C": "H N 2"})
LAYOUTS = (MINIMAL, COMPLEX, PAIRS)
