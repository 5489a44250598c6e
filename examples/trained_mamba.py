"""The eigenvalues of a really trained Mamba along real text, beside those that it and the standard Mamba start from.

The PyPI package typeseg 0.2.7 ships a bidirectional Mamba that labels every byte of a text with its content type (markdown,
Python, shell, ...): six blocks, 256 channels of 16 states each. One block, with a convolution that keeps the length:

    u = LayerNorm(h),   (x, z) = W_in u + b_in,   x <- SiLU(conv(x)),   (r, B, C) = W_x x + b_x,
    delta = softplus(W_dt r + b_dt) + 1e-4,   y = scan(x, delta, B, C) + flip(scan(flip of each)),   h <- h + W_out(y SiLU(z)) + b_out.

Each scan is exported as a layer of family s6, and the network runs on the exported systems.

    pip install typeseg==0.2.7
    python examples/trained_mamba.py [--out FILE] [--text FILE]
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ssm_analysis import FAMILIES, Layer, Layout, Part, load, simulate
from ssm_analysis.analyses.spectrum import decay_rates
from ssm_analysis.cli.output import checked_output, save
from ssm_analysis.families.shared.transforms import apply_transform
from ssm_analysis.plots.disk import COLORS, draw_disk, points_of_log_poles, stretch

BLOCKS, STEP_FLOOR = 6, 1e-4
TOKENS = 2048  # bytes of text that are read: the modes of one block along them take 64 MiB
LAGS = (10, 100, 1_000, 10_000)
WHO = ("Mamba's usual start", "before training", "trained")
Weights = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False, kw_only=True)
class Modes:
    """Decay rates -log|lambda| per token of all modes of one layer, slowest first.

    ``at_bias``: with the step that the bias alone gives. ``along``: those at every token of the text, of which 2001 are kept,
    evenly spaced by rank, both ends included; ``beyond``: the share of all with a time constant of at least ``LAGS``.
    ``averaged``: each mode's mean over the text; exp(-L averaged) is left of a state after L tokens.
    """

    at_bias: np.ndarray
    along: np.ndarray
    beyond: np.ndarray
    averaged: np.ndarray


def main(argv: list[str] | None = None) -> int:
    """Read the text, draw the picture, print the table."""
    parser = argparse.ArgumentParser(description="Eigenvalues of a trained Mamba along real text.")
    parser.add_argument("--out", type=Path, default=Path("trained_mamba.png"), help="picture (default trained_mamba.png)")
    parser.add_argument("--text", type=Path, help=f"file in UTF-8; its first {TOKENS} bytes are read (default: the README of typeseg)")
    arguments = parser.parse_args(argv)
    try:
        out = checked_output(arguments.out)
        text = arguments.text.read_text(encoding="utf-8") if arguments.text else metadata("typeseg").json["description"]
        (weights, blocks), tokens = read_weights(), tokens_of(text)[:TOKENS]
    except ModuleNotFoundError:
        parser.error("the model comes in a package of its own: pip install typeseg==0.2.7")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    inputs, logits = forward_pass(weights, blocks, tokens)
    found = [{who: modes_along(layer, u) for who, layer in zip(WHO, stages(blocks[i], i), strict=True)} for i, u in enumerate(inputs)]
    save(draw(found, len(tokens)), out)
    names = json.loads(files("typeseg").joinpath("data/manifest.json").read_text())["labels"]
    most = [f"{name} {n / len(tokens):.0%}" for name, n in Counter(names[k] for k in np.argmax(logits, axis=1)).most_common(4)]
    print(f"{len(tokens)} tokens (bytes), which the network reads as {', '.join(most)}\n")
    print_table(found)
    print(f"\ndrawn: {out}")
    return 0


def read_weights() -> tuple[Weights, list[Weights]]:
    """The arrays of the package in 64 bits, named as in its own code: all of them, and those of each block."""
    with files("typeseg").joinpath("data/mamba_al.npz").open("rb") as stored:
        weights = {name.replace("__", "/"): x.astype(np.float64) for name, x in np.load(stored).items()}
    prefixes = (f"CheckpointMambaBlock1D_{i}/" for i in range(BLOCKS))
    return weights, [{name.removeprefix(p): x for name, x in weights.items() if name.startswith(p)} for p in prefixes]


def tokens_of(text: str) -> np.ndarray:
    """Rows of the embedding: ASCII as it is, everything else in row 128."""
    from typeseg._tokenize import text_to_bytes

    if not text:
        raise ValueError("--text must hold some text, got an empty file")
    return np.minimum(text_to_bytes(text), 128)


def forward_pass(weights: Weights, blocks: list[Weights], tokens: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """What enters the layer of each block, (L, 256), and the logits: the network of the package, run on the exported systems."""
    h, inputs = weights["Embed_0/embedding"][tokens], []
    for i, w in enumerate(blocks):
        forward, reverse = layers(w, i)
        u = layer_norm(h, w)
        y = run(forward, u) + run(reverse, u[::-1])[::-1]
        z = (u @ w["Dense_0/kernel"] + w["Dense_0/bias"])[:, y.shape[1] :]
        h = h + (y * z * apply_transform("sigmoid", z)) @ w["Dense_3/kernel"] + w["Dense_3/bias"]
        inputs.append(u)
    return inputs, layer_norm(h, weights) @ weights["Dense_0/kernel"] + weights["Dense_0/bias"]


def run(layer: Layer, u: np.ndarray) -> np.ndarray:
    """The output of the layer, (L, 256)."""
    return simulate(layer.along(u), layer.core_input(u))[..., 0]


def layers(w: Weights, i: int) -> tuple[Layer, Layer]:
    """Block ``i``: the layer that reads forwards, and the one that acts on the reversed text."""
    forward, reverse = load({f"CheckpointMambaBlock1D_{i}/{name}": x for name, x in w.items()}, layouts=[TYPESEG]).values()
    return forward, reverse


def both_directions(tensors: Weights, options: Mapping[str, Any]) -> list[Part]:
    """What the family calls the tensors of a block.

    Both directions share all weights and the convolved signal. Seen from the end the four taps of the convolution are
    reversed, and look two tokens back and one ahead instead of one and two: a fifth tap of 0 centers them there.
    """
    params = {"A_log": tensors["A_log"], "D": tensors["D"]}
    params |= {"conv1d.weight": tensors["Conv_0.kernel"].T, "conv1d.bias": tensors["Conv_0.bias"]}
    for ours, theirs in (("in_proj", "Dense_0"), ("x_proj", "Dense_1"), ("dt_proj", "Dense_2")):
        params |= {f"{ours}.weight": tensors[f"{theirs}.kernel"].T, f"{ours}.bias": tensors[f"{theirs}.bias"]}
    taps = np.pad(params["conv1d.weight"][..., ::-1], ((0, 0), (0, 0), (0, 1)))
    return [Part(params=params), Part(params=params | {"conv1d.weight": taps}, suffix=":reverse")]


TYPESEG = Layout(
    title="typeseg",
    family="s6",
    shapes={
        "Conv_0.kernel": "d_conv 1 d_inner", "Conv_0.bias": "d_inner", "A_log": "d_inner d_state", "D": "d_inner",
        "Dense_0.kernel": "d_model 2*d_inner", "Dense_0.bias": "2*d_inner",
        "Dense_1.kernel": "d_inner dt_rank+2*d_state", "Dense_1.bias": "dt_rank+2*d_state",
        "Dense_2.kernel": "dt_rank d_inner", "Dense_2.bias": "d_inner",
    },
    fixed={"conv_padding": "same", "dt_offset": STEP_FLOOR},
    decode=both_directions,
)  # fmt: skip


def stages(w: Weights, i: int) -> tuple[Layer, Layer, Layer]:
    """Block ``i`` at the standard initialization of Mamba, at its own, and trained. Its two directions have the same eigenvalues."""
    usual, trained = FAMILIES["s6"].init(d_model=256, expand=1, d_state=16, dt_rank=16, seed=i), layers(w, i)[0]
    return usual, before_training(trained, seed=i), trained


def before_training(layer: Layer, *, seed: int) -> Layer:
    """A = -exp(N(0, 0.02^2)), biases 0, D = 1, weights of variance 1/fan-in (uncut): train/utils/model.py of typeseg's repository."""
    rng = np.random.default_rng(seed)
    normal = {name: rng.standard_normal(x.shape) for name, x in layer.params.items()}
    params = {name: x / np.sqrt(x.shape[-1]) if name.endswith("weight") else 0 * x for name, x in normal.items()}
    return replace(layer, params=params | {"A_log": 0.02 * normal["A_log"], "D": 1 + 0 * normal["D"]})


def modes_along(layer: Layer, u: np.ndarray) -> Modes:
    """Decay rates of the layer along ``u``."""
    rates = decay_rates(layer.along(u))
    every = np.sort(rates, axis=None)
    return Modes(
        at_bias=np.sort(-layer.at_bias(), axis=None),
        along=every[np.linspace(0, every.size - 1, 2001).astype(int)],
        beyond=np.searchsorted(every, 1 / np.asarray(LAGS), side="right") / every.size,
        averaged=np.sort(np.mean(rates, axis=0), axis=None),
    )


def print_table(found: list[dict[str, Modes]]) -> None:
    """One row for each block and set of parameters."""
    print("Both directions of a block have the same eigenvalues, in opposite order; its three layers read the same input. Times in tokens.")
    print(f"{'':29}{'bias alone':^23}  {'each token of the text, and share of times':^62} {'whole text':^15}")
    head = f"{'block':6}{'parameters':23}{'λ from':>8} {'to':>6} {'time':>7}  {'λ from':>8} {'median':>7} {'to':>9} {'time':>7} "
    print(head + " ".join(f"{f'≥{lag:,}':>6}" for lag in LAGS) + f"  {'median':>6} {'longest':>8}")
    for i, block in enumerate(found):
        for who, m in block.items():
            b, a, t = np.exp(-m.at_bias), np.exp(-m.along), 1 / m.averaged
            row = f"{i if who == WHO[0] else '':<6}{who:23}{b[-1]:8.3f} {b[0]:6.3f} {1 / m.at_bias[0]:7,.1f}  "
            row += f"{a[-1]:8.1e} {a[len(a) // 2]:7.3f} {a[0]:9.6f} {1 / m.along[0]:7,.0f} "
            print(row + " ".join(f"{share:6.1%}" for share in m.beyond) + f"  {np.median(t):6.1f} {t[0]:8,.0f}")


def draw(found: list[dict[str, Modes]], length: int) -> Figure:
    """For each block the disk, whose real axis holds all eigenvalues, and the distance to the circle by rank below it."""
    usual, start, trained = WHO
    figure = Figure(figsize=(14, 15))
    longest, before = (max(1 / block[who].along[0] for block in found) for who in (trained, start))
    title = f"A trained Mamba reading {length:,} bytes of text: before training λ ≈ 0.5, with time constants up to {before:,.0f} tokens;\n"
    figure.suptitle(f"{title}after it anything between 0 (forget at once) and 1 (hold), up to {longest:,.0f} tokens", fontsize="xx-large")
    places = {"left": 0.06, "right": 0.93, "bottom": 0.05, "top": 0.91, "wspace": 0.5, "hspace": 0.38}
    axes = figure.subplots(4, 3, height_ratios=(1.0, 1.1) * 2, gridspec_kw=places)
    for i, (disk, rim) in enumerate(zip(axes[::2].flat, axes[1::2].flat, strict=True)):
        points = [points_of_log_poles(-found[i][who].along) for who in (start, trained)]
        draw_disk(points, ax=disk, title=f"block {i}").child_axes[0].remove()  # the stretched view is drawn larger
        disk.text(-0.05, 0.02, start, color=COLORS[0], ha="right", va="bottom")
        disk.text(-0.05, -0.02, trained, color=COLORS[1], ha="right", va="top")
        stretch(points, ax=rim).set(xlabel="share of all modes at all tokens, by rank", ylim=(1, 1e-5))
        margin = -np.expm1(-found[i][usual].along)[::-1]
        rim.plot(np.linspace(0, 1, len(margin)), margin, color="0.6", linewidth=1.2, zorder=1)
        rim.text(0.03, margin[len(margin) // 2] / 2, usual, color="0.45")
        rim.axhline(STEP_FLOOR, color="0.3", linewidth=0.8, linestyle=":")
        rim.text(0.02, STEP_FLOOR / 1.3, "its code lets no step fall below 1e-4", color="0.3")
    return figure


def layer_norm(x: np.ndarray, w: Weights) -> np.ndarray:
    """(x - mean) / sqrt(variance + 1e-6) scale + bias, as flax does it."""
    centered = x - np.mean(x, axis=-1, keepdims=True)
    return centered / np.sqrt(np.mean(centered**2, axis=-1, keepdims=True) + 1e-6) * w["LayerNorm_0/scale"] + w["LayerNorm_0/bias"]


if __name__ == "__main__":
    sys.exit(main())
