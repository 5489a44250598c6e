"""Near the circle and away from it: S6, RG-LRU and time-invariant layers along the same inputs, before any training.

The paper (arXiv 2403.16899) finds that eigenvalues near the unit circle matter for time-invariant models, and that moving those of
time-varying models closer to it hurts, and leaves open why. This sets the question up: each family with its two initializations.

    python examples/marginal_stability.py [--out FILE] [--d-model 16] [--d-state 64] [--length 512] [--seed 0]
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ssm_analysis.cli.output import checked_output, save
from ssm_analysis.plots.selective import time_constant_histograms
from ssm_analysis.studies.marginal_stability import ANY, Behavior, MarginalStability, marginal_stability_experiment


def main(argv: list[str] | None = None) -> int:
    """Run the experiment, print the table, draw the picture."""
    parser = argparse.ArgumentParser(description="Layers near the unit circle and away from it, along the same inputs.")
    parser.add_argument("--out", type=Path, default=Path("marginal_stability.png"), help="picture (default marginal_stability.png)")
    for name, default, what in (("d-model", 16, "features"), ("d-state", 64, "states"), ("length", 512, "tokens"), ("seed", 0, "seed")):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} (default {default})")
    given = parser.parse_args(argv)
    try:
        out = checked_output(given.out)
        found = marginal_stability_experiment(d_model=given.d_model, d_state=given.d_state, length=given.length, seed=given.seed)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print_table(found)
    save(draw(found), out)
    print(f"\ndrawn: {out}")
    return 0


def print_table(found: MarginalStability) -> None:
    """One row for each variant and input."""
    length = len(next(iter(found.inputs.values())))
    print(f"{found.d_model} features, {found.d_state} states, inputs of {length} tokens, seed {found.seed}.", end=" ")
    print("Nothing is trained. Times in tokens.\n")
    print(f"{'':36}{'time constants at a token':^30} {'exponent as time':>17} {'receptive field':>16} {'states used':>15} {'selec-':>7}")
    print(f"{'variant':24}{'input':12}{'5 %':>6} {'median':>7} {'95 %':>6} {'longest':>8} {'median':>8} {'slowest':>8}", end=" ")
    print(f"{'median':>8} {'longest':>7} {'median':>9} {'of':>5} {'tivity':>7}")
    for b in found.behaviors:
        low, middle, high = b.time_constants(0.05, 0.5, 0.95)
        times = -1 / np.quantile(b.exponents, (0.5, 1.0))
        print(f"{b.variant:24}{b.input:12}{low:6.1f} {middle:7.1f} {high:6.0f} {b.longest:8,.0f} {times[0]:8.1f} {times[1]:8,.0f}", end=" ")
        print(f"{np.median(b.receptive_field):8.0f} {np.max(b.receptive_field):7.0f}", end=" ")
        print(f"{np.median(b.effective_states):9.1f} {b.states:5} {b.selectivity:7.2f}")


def draw(found: MarginalStability) -> Figure:
    """On the left where the poles are; on the right how far back the output looks."""
    first = next(iter(found.inputs))
    shown = [b for b in found.behaviors if b.input in (first, ANY)]
    figure = Figure(figsize=(13, 0.75 * len(shown) + 1.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    time_constant_histograms({b.variant: b.poles for b in shown}, ax=left)
    left.set_title(f"where the poles are, token by token ({first} input)")
    marks = dict(zip(found.inputs, "os^v", strict=False)) | {ANY: "D"}
    titles = [b.variant for b in shown]
    for b in found.behaviors:
        _field(right, b, len(titles) - 1 - titles.index(b.variant), marks[b.input])
    for which, mark in marks.items():
        right.plot([], [], mark, color="0.3", label=which)
    length = len(next(iter(found.inputs.values())))
    right.axvline(length - 1, color="0.5", linewidth=0.8, linestyle=":")
    right.set(xscale="log", xlim=(0.9, 1.4 * length), ylim=(-0.6, len(shown) - 0.4), yticks=range(len(shown)), yticklabels=titles[::-1])
    right.set(xlabel="tokens back from the last: 90 % of the variance", title="how far back the output looks")
    right.grid(True, color="0.9", linewidth=0.6)
    right.legend(fontsize="small", loc="lower left", title="median; bar: 5 to 95 %", title_fontsize="small")
    return figure


def _field(ax: object, b: Behavior, row: int, mark: str) -> None:
    low, middle, high = np.maximum(np.percentile(b.receptive_field, (5, 50, 95)), 1)
    y = row + {"o": 0.15, "s": -0.15}.get(mark, 0.0)
    ax.plot([low, high], [y, y], color="#1f77b4", linewidth=2, alpha=0.5)  # type: ignore[attr-defined]
    ax.plot(middle, y, mark, color="#1f77b4")  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
