"""How checkpoints store S5: lindermanlab/S5 in flax, and its port s5-pytorch.

======================  ============================================================================================
lindermanlab/S5         real and imaginary parts on a last axis; C1 and C2, or one C twice as wide, where bidirectional
s5-pytorch              Lambda and C complex; all modes, the real part without a factor 2; BH, BP, CH, CP where factorized
======================  ============================================================================================

References
----------
lindermanlab/S5, s5/ssm.py; i404788/s5-pytorch, s5/s5_model.py.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ssm_analysis.families.shared.layouts import REVERSE, Layout, Options, Part, Tensors, complex_pairs


def linderman(tensors: Tensors, options: Options) -> list[Part]:
    """Decode the flax module; without ``conj_sym``, infer from the signs of Lambda_im whether it keeps one mode of each pair."""
    C = np.concatenate([complex_pairs(tensors[name]) for name in ("C", "C1", "C2") if name in tensors], axis=-1)
    params = {name: tensors[name] for name in ("Lambda_re", "Lambda_im", "D")}
    params |= {"B": complex_pairs(tensors["B"]), "log_step": tensors["log_step"].reshape(-1)}
    own = (
        {}
        if options["conj_sym"] is not None
        else {"conj_sym": bool(np.all(tensors["Lambda_im"] <= 0) or np.all(tensors["Lambda_im"] >= 0))}
    )
    return _directions(params, C, own)


def torch_port(tensors: Tensors, options: Options) -> list[Part]:
    """Decode s5-pytorch."""
    lam = complex_pairs(tensors["Lambda"])
    if "BP" in tensors:
        BP, BH, CH, CP = (complex_pairs(tensors[name]) for name in ("BP", "BH", "CH", "CP"))
        B, C = BP @ BH.T, CH.T @ CP
    else:
        B, C = complex_pairs(tensors["B"]), complex_pairs(tensors["C"])
    params = {"Lambda_re": np.real(lam), "Lambda_im": np.imag(lam), "B": B, "log_step": tensors["log_step"].reshape(-1), "D": tensors["D"]}
    return _directions(params, C, {})


def _directions(params: dict[str, np.ndarray], C: np.ndarray, options: Options) -> list[Part]:
    """Return one part for each direction; both count the current token, and the reverse part has its own C and D = 0."""
    P = len(params["Lambda_re"])
    if C.shape[1] == P:
        return [Part(params={**params, "C": C}, options=options)]
    if C.shape[1] != 2 * P:
        raise ValueError(f"C of S5 must have {P} columns, one for each state, or {2 * P} where it is bidirectional, got {C.shape[1]}")
    return [
        Part(params={**params, "C": C[:, :P]}, options=options),
        Part(params={**params, "C": C[:, P:], "D": np.zeros_like(params["D"])}, options=options, suffix=REVERSE),
    ]


def options_from_config(config: Mapping[str, Any]) -> Options:
    """Return the discretization of a live module of s5-pytorch, which keeps the function that carries it out."""
    return {"discretization": str(config["discretize"]).removeprefix("discretize_")} if "discretize" in config else {}


def unsupported(config: Mapping[str, Any]) -> str:
    """Return why a live module of s5-pytorch is no S5; empty if it is one."""
    if config.get("liquid") is True:
        return "liquid S5 is not linear"
    if config.get("degree", 1) != 1:
        return f"s5-pytorch raises the discrete B to the power degree = {config['degree']}, which no other S5 does"
    return ""


LINDERMAN = Layout(
    title="lindermanlab/S5",
    family="s5",
    shapes={"Lambda_re": "P", "Lambda_im": "P", "B": "P H 2", "C": "H Q 2", "D": "H", "log_step": "P 1"},
    options={"discretization": "zoh", "conj_sym": None, "clip_eigs": False, "step_rescale": 1.0},
    choices={"discretization": ("zoh", "bilinear"), "conj_sym": (None, False, True), "clip_eigs": (False, True)},
    decode=linderman,
)
TWO_C = replace(
    LINDERMAN,
    title="lindermanlab/S5, bidirectional",
    shapes={"Lambda_re": "P", "Lambda_im": "P", "B": "P H 2", "C1": "H P 2", "C2": "H P 2", "D": "H", "log_step": "P 1"},
)
TORCH = Layout(
    title="s5-pytorch",
    family="s5",
    shapes={"Lambda": "P", "B": "P H 2", "C": "H Q", "D": "H", "log_step": "P"},
    options={"discretization": "zoh", "step_rescale": 1.0},
    choices={"discretization": ("zoh", "bilinear")},
    aliases={"step_rescale": ("step_scale",)},
    fixed={"conj_sym": False, "clip_eigs": False},
    configured=options_from_config,
    refuses=unsupported,
    decode=torch_port,
)
TORCH_PAIRS = replace(TORCH, title="s5-pytorch, pairs", shapes={**TORCH.shapes, "Lambda": "P 2", "C": "H Q 2"})
TORCH_COLUMN = replace(TORCH, title="s5-pytorch, steps in a column", shapes={**TORCH.shapes, "log_step": "P 1"})
TORCH_COMPLEX = replace(TORCH, title="s5-pytorch, complex B", shapes={**TORCH.shapes, "B": "P H"})
TORCH_FACTORIZED = replace(
    TORCH,
    title="s5-pytorch, factorized",
    shapes={"Lambda": "P", "BP": "P k", "BH": "H k", "CH": "k H", "CP": "k Q", "D": "H", "log_step": "P"},
)
NATIVE = replace(
    LINDERMAN,
    title="the parameters of family s5",
    shapes={"Lambda_re": "P", "Lambda_im": "P", "B": "P H", "C": "H P", "D": "H", "log_step": "P"},
)
LAYOUTS = (LINDERMAN, TWO_C, TORCH, TORCH_COLUMN, TORCH_COMPLEX, TORCH_PAIRS, TORCH_FACTORIZED, NATIVE)
