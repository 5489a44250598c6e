"""The unit-disk figure: where each initialization puts the eigenvalues of the discrete A."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ssm_analysis.plots.disk import draw_disk, points_of_log_poles
from ssm_analysis.studies.initialization import InitialEigenvalues

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.3, 6.2
"""Of one panel, inches."""


def initial_unit_disks(found: Sequence[InitialEigenvalues]) -> "Figure":
    """Draw one panel for each family, three in a row, each a disk and its stretched rim."""
    if not found:
        raise ValueError("there must be at least one family to draw, got none")
    from matplotlib.figure import Figure

    columns = min(3, len(found))
    rows = math.ceil(len(found) / columns)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows + 0.5), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.1)  # type: ignore[union-attr]
    figure.suptitle(
        "Eigenvalues of the discrete-time A at initialization"
        + (": " if columns == 3 else "\n")
        + ("inside the circle is stable, near the circle is long memory" if columns > 1 else "inside: stable; near the circle: long memory")
    )
    for i, panel in enumerate(found):
        ax = figure.add_subplot(rows, columns, i + 1)
        labels = [series.label for series in panel.series] if len(panel.series) > 1 else None
        draw_disk([points_of_log_poles(series.log_poles) for series in panel.series], ax=ax, labels=labels)
        ax.set_title(panel.title, fontsize="x-large", pad=40)
        ax.text(0.5, 1.02, f"{panel.setting}\n{_matrix(panel)}", transform=ax.transAxes, ha="center", va="bottom", fontsize="x-small")
    return figure


def _matrix(panel: InitialEigenvalues) -> str:
    if panel.condition < 1e6:
        return panel.matrix
    return f"{panel.matrix}, exact, not rounded to floats;\neigenvector condition 1e{math.floor(math.log10(panel.condition))}"
