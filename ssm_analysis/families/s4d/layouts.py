r"""How checkpoints store S4D: four versions of state-spaces/s4, its minimal S4D, and annotated-s4.

==============  ====================================================================================================
V2.1            kernel.kernel.*: w in parts, no B; w whole with disc="dss", whose kernel depends on its length
v3              kernel.kernel.*: A_imag <= 0, and a stale copy A of the initialization that nothing uses
v4              kernel.*: A_imag >= 0; S4D-Real without A_imag and without the last axis of B and C
minimal         kernel.*: log_A_real, A_imag of either sign, no B
annotated-s4    all modes, the real part; B is stored and not used
==============  ====================================================================================================

References
----------
Tags v3.0.0 and v4.0.0 of state-spaces/s4 and its commit 643a518 ("V2.1"), models/s4/s4d.py; srush/annotated-s4.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ssm_analysis.families.s4.layouts import CHOICES, CLIP, FOLDED, KERNEL, STEP_IS_EXP, TRANSFORMS, band, bare, plain_step
from ssm_analysis.families.shared.layouts import Layout, Options, Part, Tensors, complex_pairs, in_two_directions, one_or_two_directions
from ssm_analysis.families.shared.transforms import apply_transform, tile_copies

DSS_GUARD = 1e-7
"""The constant that upstream adds to |x|^2 where the normalization of DSS divides by x."""


def v4(tensors: Tensors, options: Options) -> list[Part]:
    """Decode version 4, whose names are native."""
    t = {leaf.removeprefix("kernel."): x for leaf, x in tensors.items()}
    params = {"inv_dt": plain_step(t["inv_dt"], options), "A_real": t["A_real"], "B": t["B"][0], "C": t["C"], "D": t["D"]}
    if "A_imag" in t:
        params |= {"A_imag": t["A_imag"], "B": complex_pairs(t["B"])[0], "C": complex_pairs(t["C"])}
        params["C"] = params["C"] * band(params, options)
    return _discretized(params, options, {name: options[name] for name in TRANSFORMS})


def v3(tensors: Tensors, options: Options) -> list[Part]:
    """Decode version 3."""
    t = {leaf.removeprefix(KERNEL): x for leaf, x in tensors.items()}
    params = {"inv_dt": t["log_dt"][:, None], "A_real": t["inv_A_real"], "A_imag": -t["A_imag"], "B": complex_pairs(t["B"]), "D": t["D"]}
    params["C"] = complex_pairs(t["C"]) * band(params, {**options, **STEP_IS_EXP})
    return _discretized(params, options, {**STEP_IS_EXP, "real_transform": options["real_transform"]})


def v21(tensors: Tensors, options: Options) -> list[Part]:
    """Decode V2.1, which multiplied B into C at initialization."""
    t = {leaf.removeprefix(KERNEL): x for leaf, x in tensors.items()}
    params = {"inv_dt": t["log_dt"][:, None], "A_real": t["log_w_real"], "A_imag": -t["w_imag"], "C": complex_pairs(t["C"]), "D": t["D"]}
    params["B"] = np.ones_like(params["A_real"], dtype=np.complex128)
    return _discretized(params, options, V21_FIXED)


def v21_dss(tensors: Tensors, options: Options) -> list[Part]:
    """Decode V2.1 with disc="dss", the only one that stores w as one complex tensor, whose real part may be positive."""
    t = {leaf.removeprefix(KERNEL): x for leaf, x in tensors.items()}
    w = complex_pairs(t["w"])
    params = {
        "inv_dt": t["log_dt"][:, None],
        "A_real": -np.real(w),
        "A_imag": -np.imag(w),
        "B": np.ones_like(w),
        "C": complex_pairs(t["C"]),
        "D": t["D"],
    }
    return _discretized(params, options, {**STEP_IS_EXP, "real_transform": "none"})


def minimal(tensors: Tensors, options: Options) -> list[Part]:
    """Decode models/s4/s4d.py: A = -exp(log_A_real) + i A_imag, B = 1."""
    t = {leaf.removeprefix("kernel."): x for leaf, x in tensors.items()}
    C = complex_pairs(t["C"])
    params = {"inv_dt": t["log_dt"][:, None], "A_real": t["log_A_real"], "A_imag": -t["A_imag"], "B": np.ones_like(C), "C": C[None]}
    return [Part(params={**params, "D": t["D"][None]})]


def annotated(tensors: Tensors, options: Options) -> list[Part]:
    """Decode annotated-s4: all N modes of each feature, features on axis 1, y = Re(C x) without the factor 2, B = 1."""
    t = {leaf: x.reshape(x.shape[0], -1) if leaf != "C" else x for leaf, x in tensors.items()}
    C = complex_pairs(t["C"])
    C = (C[:, None] if C.ndim == 1 else C).T
    modes = {"A_real": -np.minimum(t["A_re"], CLIP).T, "A_imag": -t["A_im"].T}
    return [Part(params={"inv_dt": t["log_step"].T, **modes, "B": np.ones_like(C), "C": C[None] / 2, "D": t["D"]})]


def _discretized(params: dict[str, np.ndarray], options: Options, transforms: Mapping[str, str]) -> list[Part]:
    """Return the parts of a layer; if it uses the discretization of DSS, rewrite it as zero-order hold."""
    if options["disc"] != "dss":
        return in_two_directions(params, {})
    if options["l_max"] is None:
        raise ValueError(
            "disc='dss' normalizes its kernel by its length, which the weights do not tell: pass the length of the "
            "sequences, assume={'l_max': L}"
        )
    params["C"] = params["C"] * _softmax_over_hold(params, transforms, int(options["l_max"]))
    return in_two_directions(params, {"disc": "zoh"}, notes=(f"the kernel of DSS for sequences of {int(options['l_max'])} tokens",))


def _softmax_over_hold(params: Tensors, transforms: Mapping[str, str], L: int) -> np.ndarray:
    """Return the factor that turns the weights C of DSS into those of zero-order hold with the factor 2 of S4D, mode by mode.

    K[l] = Re sum_n C_n B_n s(delta A_n L)/A_n e^{delta A_n l}, where s(x) = (e^{delta A} - 1)/(e^x - 1) and where modes that grow
    are counted from the end of the sequence; zero-order hold has 2 Re sum_n C_n B_n (e^{delta A_n} - 1)/A_n e^{delta A_n l}.
    """
    H = len(params["inv_dt"])
    A = -apply_transform(transforms["real_transform"], params["A_real"])
    if "A_imag" in params:
        A = A - 1j * apply_transform(transforms["imag_transform"], params["A_imag"])
    A = tile_copies(A, H)
    step = apply_transform(transforms["dt_transform"], params["inv_dt"]) * A
    grows = A.real > 0
    decaying = np.where(grows, -step, step)
    x = np.expm1(decaying * L) * A
    reciprocal = np.conj(x) / (np.abs(x) ** 2 + DSS_GUARD)
    return np.expm1(decaying) * reciprocal * np.exp(np.where(grows, -step * (L - 1), 0)) * A / np.expm1(step) / 2


V21_FIXED = {**STEP_IS_EXP, "real_transform": "exp"}
PAIRS = {"B": "1 S n 2", "C": "channels H n 2"}
LENGTH = {"l_max": None}
FOLDED_HERE = FOLDED | {"l_max"}

V4 = Layout(
    title="state-spaces/s4 v4, diagonal",
    family="s4d",
    shapes={
        "kernel.inv_dt": "H k", "kernel.A_real": "S n", "kernel.A_imag": "S n", "kernel.B": "1 S n 2", "kernel.C": "channels H n 2",
        "D": "outputs H",
    },
    without=("kernel.P",),
    where=one_or_two_directions("kernel.C", "D"),
    options={**TRANSFORMS, "disc": "zoh", "dt_fast": False, "bandlimit": None, **LENGTH},
    folded=FOLDED_HERE,
    choices=CHOICES,
    decode=v4,
)  # fmt: skip
V4_REAL = replace(
    V4,
    title="state-spaces/s4 v4, real",
    shapes={"kernel.inv_dt": "H k", "kernel.A_real": "S n", "kernel.B": "1 S n", "kernel.C": "channels H n", "D": "outputs H"},
    without=("kernel.P", "kernel.A_imag"),
)
V3 = Layout(
    title="state-spaces/s4 v3, diagonal",
    family="s4d",
    shapes={
        KERNEL + "inv_A_real": "S n", KERNEL + "A_imag": "S n", KERNEL + "log_dt": "H", KERNEL + "B": "S n 2",
        KERNEL + "C": "channels H n 2",
        "D": "outputs H",
    },
    alongside=(KERNEL + "A",),
    where=one_or_two_directions(KERNEL + "C", "D"),
    options={"real_transform": "exp", "disc": "bilinear", "bandlimit": None, **LENGTH},
    aliases={"real_transform": ("real_type",)},
    folded=FOLDED_HERE,
    choices=CHOICES,
    fixed=STEP_IS_EXP,
    decode=v3,
)  # fmt: skip
V21 = Layout(
    title="state-spaces/s4 V2.1, diagonal",
    family="s4d",
    shapes={
        KERNEL + "log_w_real": "S n",
        KERNEL + "w_imag": "S n",
        KERNEL + "log_dt": "H",
        KERNEL + "C": "channels H n 2",
        "D": "outputs H",
    },
    without=(KERNEL + "P", KERNEL + "B"),
    where=one_or_two_directions(KERNEL + "C", "D"),
    options={"disc": "bilinear", **LENGTH},
    folded=FOLDED_HERE,
    choices=CHOICES,
    fixed=V21_FIXED,
    decode=v21,
)
V21_DSS = replace(
    V21,
    title="state-spaces/s4 V2.1, diagonal, DSS",
    shapes={KERNEL + "w": "S n 2", KERNEL + "log_dt": "H", KERNEL + "C": "channels H n 2", "D": "outputs H"},
    options={"disc": "dss", **LENGTH},
    choices={"disc": ("dss",)},
    fixed={**STEP_IS_EXP, "real_transform": "none"},
    decode=v21_dss,
)
MINIMAL = Layout(
    title="state-spaces/s4, minimal S4D",
    family="s4d",
    shapes={"kernel.log_A_real": "H n", "kernel.A_imag": "H n", "kernel.log_dt": "H", "kernel.C": "H n 2", "D": "H"},
    fixed={**V21_FIXED, "disc": "zoh"},
    decode=minimal,
)
ANNOTATED = Layout(
    title="annotated-s4, S4D",
    family="s4d",
    shapes={"A_re": "N H", "A_im": "N H", "C": "N H 2", "D": "1 H", "log_step": "1 H"},
    alongside=("B_re", "B_im"),
    fixed={**STEP_IS_EXP, "real_transform": "none", "disc": "zoh"},
    decode=annotated,
)
ANNOTATED_ONE = replace(
    ANNOTATED,
    title="annotated-s4, S4D, one feature",
    shapes={"A_re": "N", "A_im": "N", "C": "N 2", "D": "1", "log_step": "1"},
)
NATIVE = Layout(
    title="the parameters of family s4d",
    family="s4d",
    shapes={"inv_dt": "H k", "A_real": "S n", "A_imag": "S n", "B": "S n", "C": "channels H n", "D": "channels H"},
    optional=("A_imag",),
    without=("P",),
    options={**TRANSFORMS, "disc": "zoh", "strictly_causal": False},
    choices={**CHOICES, "disc": ("zoh", "bilinear")},
)
LAYOUTS = (
    V4, V4_REAL, V3, V21, V21_DSS, MINIMAL, ANNOTATED, ANNOTATED_ONE,
    bare(V4, "kernel."), bare(V4_REAL, "kernel."), bare(V3, KERNEL), bare(V21, KERNEL), bare(V21_DSS, KERNEL), bare(MINIMAL, "kernel."),
    NATIVE,
)  # fmt: skip
