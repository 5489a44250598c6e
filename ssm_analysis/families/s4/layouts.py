r"""How checkpoints store S4: five versions of state-spaces/s4, and annotated-s4.

==============  ====================================================================================================
v1              kernel.krylov.*: P and Q beside B and C, everything in C conjugated, one length for good
v2              kernel.kernel.*: w, P, Q; with hurwitz=True log_w_real, w_imag in the place of w and no Q
v2.1, v3        kernel.kernel.*: w in parts, no Q, the length L of C is a buffer
v4              kernel.*: A_imag with the opposite sign, l_kernel
annotated-s4    all modes, the real part, C for a length that no file stores
==============  ====================================================================================================

Most hold C~ = C (I - A_d^L) in the place of C, because the kernel of L tokens is computed from it; C is recovered here, where the
numbers have 64 bits.

References
----------
The code of each version: tags v1, v2, v3.0.0 and v4.0.0 of state-spaces/s4 and its commit 643a518 ("V2.1"); srush/annotated-s4.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Complex

from ssm_analysis.families.shared.layouts import (
    Layout,
    Options,
    Part,
    Tensors,
    anything,
    complex_pairs,
    in_two_directions,
    one_or_two_directions,
)
from ssm_analysis.families.shared.transforms import NAMES, apply_transform, tile_copies

TRANSFORMS = {"dt_transform": "exp", "real_transform": "exp", "imag_transform": "none"}
STEP_IS_EXP = {"dt_transform": "exp", "imag_transform": "none"}
CLIP = -1e-4
"""Largest real part of Lambda in annotated-s4."""


def v4(tensors: Tensors, options: Options) -> list[Part]:
    """Decode version 4, whose names are native."""
    B, C, P = (complex_pairs(tensors[f"kernel.{name}"]) for name in ("B", "C", "P"))
    params = {
        "inv_dt": plain_step(tensors["kernel.inv_dt"], options),
        "A_real": tensors["kernel.A_real"],
        "A_imag": tensors["kernel.A_imag"],
        "P": P,
        "B": B[0],
        "C": C,
        "D": tensors["D"],
    }
    params["C"] = C * band(params, options)
    stored = int(tensors["kernel.l_kernel"]) if "kernel.l_kernel" in tensors else 0
    return in_two_directions(with_true_C(params, options, _length(stored, options)), {})


def v3(tensors: Tensors, options: Options) -> list[Part]:
    """Decode version 3 (inv_w_real) and V2.1 (log_w_real)."""
    t = {leaf.removeprefix("kernel.kernel."): x for leaf, x in tensors.items()}
    rate = t["inv_w_real"] if "inv_w_real" in t else t["log_w_real"]
    own = {"real_transform": options.get("real_transform", "exp")}
    if own["real_transform"] == "relu":  # without the floor that version 4 adds
        rate, own = np.maximum(rate, 0), {"real_transform": "none"}
    B, C, P = (complex_pairs(t[name]) for name in ("B", "C", "P"))
    step = plain_step(t["log_dt"][:, None], options)
    params = {"inv_dt": step, "A_real": rate, "A_imag": -t["w_imag"], "P": P, "B": B[0], "C": C, "D": t["D"]}
    params["C"] = C * band(params, {**options, **STEP_IS_EXP})
    return in_two_directions(with_true_C(params, STEP_IS_EXP | own, _length(int(t["L"]), options)), own)


def v2(tensors: Tensors, options: Options) -> list[Part]:
    """Decode version 2: A = diag(w) - P Q^T, or A = diag(w) - P P^* with hurwitz=True."""
    t = {leaf.removeprefix("kernel.kernel."): x for leaf, x in tensors.items()}
    B, C, P = (complex_pairs(t[name]) for name in ("B", "C", "P"))
    params = {"inv_dt": t["log_dt"][:, None], "P": P, "B": B[0], "C": C, "D": t["D"]}
    if "w" in t:
        w = complex_pairs(t["w"])
        params |= {"A_real": -np.real(w), "A_imag": -np.imag(w), "Q": np.conj(complex_pairs(t["Q"]))}
        own = {"real_transform": "none"}
    else:
        params |= {"A_real": t["log_w_real"], "A_imag": -t["w_imag"]}
        own = {"real_transform": "exp"}
    return in_two_directions(with_true_C(params, STEP_IS_EXP | own, kernel_length(t["omega"])), {})


def v1(tensors: Tensors, options: Options) -> list[Part]:
    """Decode version 1: A = diag(w) - p q^* with [B; p] and [C; q] stacked, y = 2 Re(conj(C) x)."""
    t = {leaf.removeprefix("kernel.krylov."): x for leaf, x in tensors.items()}
    B, C, w = (complex_pairs(t[name]) for name in ("B", "C", "w"))
    H = len(t["log_dt"])
    w = tile_copies(w.reshape(-1, w.shape[-1]), H)
    B = np.broadcast_to(B, C.shape)
    P, Q = (np.moveaxis(x[:, 1:], 1, 0) for x in (B, C))
    params = {
        "inv_dt": t["log_dt"][:, None],
        "A_real": -w.real,
        "A_imag": -w.imag,
        "P": P,
        "Q": Q,
        "B": B[:, 0],
        "C": np.conj(C[None, :, 0]),
        "D": t["D"][None],
    }
    return in_two_directions(with_true_C(params, STEP_IS_EXP | {"real_transform": "none"}, kernel_length(t["nodes"])), {})


def annotated(tensors: Tensors, options: Options) -> list[Part]:
    """Decode annotated-s4, which stores all N modes of each feature, features on axis 1."""
    t = {leaf: x.reshape(x.shape[0], -1, *x.shape[2:]) if leaf != "C" else x for leaf, x in tensors.items()}
    C = complex_pairs(t["C"])
    C = C[:, None] if C.ndim == 1 else C
    params = {
        "inv_dt": t["log_step"].T,
        "A_real": -np.minimum(t["Lambda_re"], CLIP).T,
        "A_imag": -t["Lambda_im"].T,
        "P": t["P"].astype(np.complex128).T[None],
        "B": t["B"].astype(np.complex128).T,
        "C": np.conj(C).T[None],
        "D": t["D"],
    }
    if options["l_max"] is None:
        raise ValueError(
            "annotated-s4 stores C (I - A^L) in the place of C, and L, the sequence length of its training, in no file: "
            "pass it, assume={'l_max': L}"
        )
    # upstream: C = conj((I - A_d^L)^{-H} C~) with C~ conjugated in the kernel, so that conj(C~) (I - A_d^L)^{-1} reads out
    return [Part(params=with_true_C(params, ANNOTATED_FIXED, int(options["l_max"])))]


def _length(stored: int, options: Options) -> int:
    """Return the kernel length that C belongs to: the caller's ``l_max``, or else the stored one."""
    said = options.get("l_max")
    return stored if said is None else said


def with_true_C(params: Tensors, options: Options, length: int) -> Tensors:
    """Replace C (I - A_d^length) by C; with length 0 the parameters already hold C."""
    if length < 0:
        raise ValueError(f"the length of the kernel of S4 must not be negative, got {length}")
    if length == 0:
        return params
    paired = options.get("conj_sym", True)
    C, n = params["C"], params["C"].shape[-1]
    A_d = discrete_matrices(params, options)
    rows = _both(np.moveaxis(C, 0, 1)) if paired else np.moveaxis(C, 0, 1)
    kept = np.eye(A_d.shape[-1]) - np.linalg.matrix_power(A_d, length)
    true = np.linalg.solve(np.matrix_transpose(kept), np.matrix_transpose(rows))
    return {**params, "C": np.moveaxis(np.matrix_transpose(true)[..., :n], 0, 1)}


def discrete_matrices(params: Tensors, options: Options) -> Complex[np.ndarray, "h n n"]:
    """Return A_d of each feature, in the complex coordinates [x; conj x]."""
    H, paired = len(params["inv_dt"]), options.get("conj_sym", True)
    expand: Callable[[np.ndarray], np.ndarray] = _both if paired else np.asarray
    lam = -apply_transform(options["real_transform"], params["A_real"]) - 1j * apply_transform(options["imag_transform"], params["A_imag"])
    P, Q = expand(params["P"]), expand(np.conj(params.get("Q", params["P"])))
    one = np.eye(expand(lam).shape[-1])
    A = tile_copies(expand(lam)[..., None] * one - np.sum(P[..., :, None] * Q[..., None, :], axis=0), H)
    delta = apply_transform(options["dt_transform"], params["inv_dt"])
    delta = expand(delta)[..., None] if delta.shape[-1] > 1 else delta[..., None]
    return np.linalg.solve(one - delta * A / 2, one + delta * A / 2)


def kernel_length(nodes: np.ndarray) -> int:
    """Return L, given the stored e^{-2 pi i k/L} for k = 0, ..., L//2."""
    if len(nodes) == 1:
        return 1
    even, angle = 2 * (len(nodes) - 1), -np.angle(complex_pairs(nodes)[1])
    return even + 1 if round(2 * np.pi / angle) == even + 1 else even


def plain_step(inv_dt: np.ndarray, options: Options) -> np.ndarray:
    """Return the step before its transform; with ``dt_fast`` the file stores its asinh."""
    return np.sinh(inv_dt) if options.get("dt_fast") else inv_dt


def band(params: Tensors, options: Options) -> np.ndarray:
    """Return 1 for each mode that ``bandlimit`` keeps and 0 for the others, (H, n); kept modes have delta |Im A| / 2 pi < bandlimit / 2."""
    H, limit = len(params["inv_dt"]), options.get("bandlimit")
    if limit is None:
        return np.ones((H, params["A_real"].shape[-1]))
    frequency = tile_copies(apply_transform(options["imag_transform"], params["A_imag"]), H)
    delta = apply_transform(options["dt_transform"], params["inv_dt"])
    return np.where(delta * np.abs(frequency) / (2 * np.pi) < limit / 2, 1.0, 0.0)


def bare(layout: Layout, prefix: str) -> Layout:
    """Return the layout of a kernel stored without the block around it; its D is taken as 0."""

    def cut(leaves: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(leaf.removeprefix(prefix) for leaf in leaves)

    return replace(
        layout,
        title=f"{layout.title}, kernel alone",
        shapes={leaf.removeprefix(prefix): axes for leaf, axes in layout.shapes.items() if leaf != "D"},
        optional=cut(layout.optional),
        alongside=cut(layout.alongside),
        without=cut(layout.without),
        where=anything,
        decode=partial(_decode_bare, layout, prefix),
    )


def _decode_bare(layout: Layout, prefix: str, tensors: Tensors, options: Options) -> list[Part]:
    C = tensors["C"]
    D = np.zeros(C.shape[:1] if layout.shapes["D"] == "H" else C.shape[:2])
    parts = layout.decode({**{prefix + leaf: x for leaf, x in tensors.items()}, "D": D}, options)
    return [replace(part, notes=(*part.notes, "a kernel without its block: D is not stored and taken as 0")) for part in parts]


def _both(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.conj(x)], axis=-1)


def _in(prefix: str, shapes: Mapping[str, str]) -> dict[str, str]:
    return {prefix + leaf: axes for leaf, axes in shapes.items()}


ANNOTATED_FIXED = {"dt_transform": "exp", "real_transform": "none", "imag_transform": "none", "conj_sym": False}
MODES = {"B": "1 S n 2", "P": "r S n 2", "C": "channels H n 2"}
FOLDED = frozenset({"dt_fast", "bandlimit"})
BILINEAR = {"disc": "bilinear"}
"""The discretization of DPLR matrices, whatever the option says."""
CHOICES = {**dict.fromkeys(TRANSFORMS, NAMES), "disc": ("zoh", "bilinear", "dss"), "dt_fast": (False, True)}
KERNEL = "kernel.kernel."

V4 = Layout(
    title="state-spaces/s4 v4, DPLR",
    family="s4",
    shapes={**_in("kernel.", {"inv_dt": "H k", "A_real": "S n", "A_imag": "S n", **MODES, "l_kernel": ""}), "D": "outputs H"},
    optional=("kernel.l_kernel",),  # a buffer, which those who store parameters alone lose: then the caller knows the length
    where=one_or_two_directions("kernel.C", "D"),
    options={**TRANSFORMS, "dt_fast": False, "bandlimit": None, "l_max": None},
    asked=frozenset({"l_max"}),
    folded=FOLDED | {"disc", "l_max"},
    fixed=BILINEAR,
    choices=CHOICES,
    decode=v4,
)
V3 = Layout(
    title="state-spaces/s4 v3, NPLR",
    family="s4",
    shapes={**_in(KERNEL, {"inv_w_real": "S n", "w_imag": "S n", "log_dt": "H", **MODES, "L": ""}), "D": "outputs H"},
    where=one_or_two_directions(KERNEL + "C", "D"),
    options={"real_transform": "exp", "bandlimit": None},
    folded=frozenset({"bandlimit", "disc"}),
    aliases={"real_transform": ("real_type",)},
    fixed={**STEP_IS_EXP, **BILINEAR},
    choices=CHOICES,
    decode=v3,
)
V21 = Layout(
    title="state-spaces/s4 V2.1, NPLR",
    family="s4",
    shapes={**_in(KERNEL, {"log_w_real": "S n", "w_imag": "S n", "log_dt": "H", **MODES, "L": ""}), "D": "outputs H"},
    where=one_or_two_directions(KERNEL + "C", "D"),
    options={"l_max": None, "dt_fast": False},  # stepping zeroes the buffer L, after which only the caller knows the length
    folded=frozenset({"l_max", "dt_fast", "disc"}),
    asked=frozenset({"l_max"}),
    aliases={"dt_fast": ("fast_gate",)},
    fixed={**STEP_IS_EXP, "real_transform": "exp", **BILINEAR},
    choices=CHOICES,
    decode=v3,
)
V2 = Layout(
    title="state-spaces/s4 v2",
    family="s4",
    shapes={**_in(KERNEL, {"omega": "half 2", "w": "S n 2", "log_dt": "H", "Q": "r S n 2", **MODES}), "D": "outputs H"},
    alongside=(KERNEL + "z",),
    where=one_or_two_directions(KERNEL + "C", "D"),
    folded=frozenset({"disc"}),
    fixed={**STEP_IS_EXP, "real_transform": "none", **BILINEAR},
    decode=v2,
)
V2_HURWITZ = replace(
    V2,
    title="state-spaces/s4 v2, hurwitz",
    shapes={**_in(KERNEL, {"omega": "half 2", "log_w_real": "S n", "w_imag": "S n", "log_dt": "H", **MODES}), "D": "outputs H"},
    without=(KERNEL + "Q", KERNEL + "L"),
    fixed={**STEP_IS_EXP, "real_transform": "exp", **BILINEAR},
)
V1 = Layout(
    title="state-spaces/s4 v1",
    family="s4",
    shapes={
        **_in("kernel.krylov.", {"nodes": "half 2", "w": "S n 2", "log_dt": "H", "B": "H q n 2", "C": "H q n 2"}),
        "D": "H",
    },
    alongside=("kernel.krylov.z",),
    folded=frozenset({"disc"}),
    fixed={**STEP_IS_EXP, "real_transform": "none", **BILINEAR},
    decode=v1,
)
V1_ONE_W = replace(V1, title="state-spaces/s4 v1, one w for all", shapes={**V1.shapes, "kernel.krylov.w": "n 2"})
V1_ONE_B = replace(V1, title="state-spaces/s4 v1, one B for all", shapes={**V1.shapes, "kernel.krylov.B": "q n 2"})
V1_ONE_W_AND_B = replace(V1_ONE_W, title="state-spaces/s4 v1, one w and B for all", shapes={**V1_ONE_W.shapes, "kernel.krylov.B": "q n 2"})
ANNOTATED = Layout(
    title="annotated-s4, S4",
    family="s4",
    shapes={
        "Lambda_re": "N H", "Lambda_im": "N H", "P": "N H", "B": "N H", "C": "N H 2", "D": "1 H", "log_step": "1 H",
    },
    options={"l_max": None},
    folded=frozenset({"l_max", "disc"}),
    fixed={**ANNOTATED_FIXED, **BILINEAR},
    decode=annotated,
)  # fmt: skip
ANNOTATED_ONE = replace(
    ANNOTATED,
    title="annotated-s4, S4, one feature",
    shapes={"Lambda_re": "N", "Lambda_im": "N", "P": "N", "B": "N", "C": "N 2", "D": "1", "log_step": "1"},
)
NATIVE = Layout(
    title="the parameters of family s4",
    family="s4",
    shapes={
        "P": "r S n", "Q": "r S n", "inv_dt": "H k", "A_real": "S n", "A_imag": "S n", "B": "S n", "C": "channels H n", "D": "channels H",
    },
    optional=("Q",),
    options={**TRANSFORMS, "conj_sym": True, "strictly_causal": False},
    choices=CHOICES,
)  # fmt: skip
ALL_V1 = (V1, V1_ONE_W, V1_ONE_B, V1_ONE_W_AND_B)
LAYOUTS = (
    V4, V3, V2, V2_HURWITZ, V21, *ALL_V1, ANNOTATED, ANNOTATED_ONE,
    bare(V4, "kernel."), bare(V3, KERNEL), bare(V2, KERNEL), bare(V2_HURWITZ, KERNEL), bare(V21, KERNEL),
    *(bare(layout, "kernel.krylov.") for layout in ALL_V1), NATIVE,
)  # fmt: skip
