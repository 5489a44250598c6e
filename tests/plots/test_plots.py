"""What is in the pictures, read back from the artists; nobody has to look."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from ssm_analysis import DiagonalSSM
from ssm_analysis.cli.tables.families import initial_data
from ssm_analysis.plots import initial, stretch, unit_disk
from ssm_analysis.plots.disk import ALARM, COLORS, MANY, NEAREST, draw_disk, points_of_log_poles
from ssm_analysis.studies.initialization import initial_eigenvalues
from tests.support.systems_table import STABLE

POLES = np.array([0.5 + 0.5j, -0.9, 0.999j, 0.2])


@pytest.fixture(autouse=True)
def nothing_left():
    """No figure, no setting of matplotlib outlives a test."""
    settings = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == settings


def drawn(ax):
    """The axes, after everything has really been drawn."""
    ax.figure.draw_without_rendering()
    return ax


def dots(ax, marker="o"):
    """Positions of all dots, by color."""
    found = {}
    for line in ax.lines:
        if line.get_marker() == marker:
            found.setdefault(to_hex(line.get_color()), []).append(np.column_stack(line.get_data()))
    return {color: np.concatenate(xy) for color, xy in found.items()}


def dots_of(z):
    return np.column_stack([np.real(z), np.imag(z)])


def rim(ax):
    (below,) = ax.child_axes
    return below


def own_axes():
    return Figure(figsize=(4, 6), layout="constrained").add_subplot()


# the disk


LIVE = torch.tensor(POLES, requires_grad=True)


@pytest.mark.parametrize("given", [POLES, POLES.reshape(2, 1, 2), LIVE.detach(), LIVE, [POLES], (POLES,), POLES.astype(np.complex64)])
def test_every_eigenvalue_is_where_it_is(given):
    ax = drawn(unit_disk(given, ax=own_axes()))
    np.testing.assert_allclose(dots(ax)[COLORS[0]], dots_of(POLES), atol=1e-6)
    circle = ax.lines[0].get_xydata()
    np.testing.assert_allclose(np.hypot(*circle.T), np.ones(len(circle)), rtol=1e-14)
    np.testing.assert_allclose(circle[0], circle[-1], atol=1e-14)
    assert ax.get_aspect() == 1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Re λ", "Im λ")
    assert ax.get_legend() is None
    assert ax.get_title() == ""
    np.testing.assert_allclose([*ax.get_xlim(), *ax.get_ylim()], [-1.08, 1.08] * 2)


def test_several_colors_with_a_legend_and_a_title():
    series = [POLES * factor for factor in (1.0, 0.9, 0.8, 0.7, 0.6)]
    ax = drawn(unit_disk(series, labels=["a", "b", "c", "d", "e"], title="five", ax=own_axes()))
    found = dots(ax)
    np.testing.assert_allclose(found[COLORS[0]], dots_of(np.concatenate([series[0], series[4]])), atol=1e-15)  # the colors come round again
    for z, color in zip(series[1:4], COLORS[1:], strict=True):
        np.testing.assert_allclose(found[color], dots_of(z), atol=1e-15)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "c", "d", "e"]
    assert ax.get_title() == "five"
    assert set(dots(rim(ax))) == set(COLORS)


def test_the_papers_colors_come_first():
    assert COLORS[:2] == ("#1f77b4", "#ff7f0e")
    assert ALARM not in COLORS
    assert len(set(COLORS)) == len(COLORS)


def test_real_eigenvalues_are_a_rug():
    """Two colors on one line would hide each other: one stands above the axis, the other hangs below."""
    one = drawn(unit_disk(np.array([0.5, -0.5]), ax=own_axes()))
    two = drawn(unit_disk([np.array([0.5, 0.9]), np.array([-0.3])], ax=own_axes()))
    (rug,) = (c for c in one.collections if isinstance(c, LineCollection))
    segments = np.array(rug.get_segments())
    np.testing.assert_allclose(segments[..., 0], [[0.5, 0.5], [-0.5, -0.5]])
    assert np.all(segments[:, 0, 1] == -segments[:, 1, 1])
    above, below = (np.array(c.get_segments()) for c in two.collections if isinstance(c, LineCollection))
    np.testing.assert_allclose(above[:, 0, 0], [0.5, 0.9])
    np.testing.assert_allclose(below[:, 0, 0], [-0.3])
    assert np.max(above[..., 1]) > 0 == np.min(above[..., 1])
    assert np.min(below[..., 1]) < 0 == np.max(below[..., 1])


def test_a_hundred_thousand_eigenvalues_are_a_density(rng):
    """As many on the left half as on the right, ten times denser there: darker, not hidden."""
    angle = rng.uniform(0, 2 * np.pi, 100_000)
    z = np.sqrt(rng.uniform(0.01, 1, 100_000)) * np.exp(1j * angle)
    z[: len(z) // 2] = 0.3 * z[: len(z) // 2]
    ax = drawn(unit_disk(z, ax=own_axes()))
    (mesh,) = (c for c in ax.collections if isinstance(c, QuadMesh))
    assert not dots(ax)
    alpha = np.asarray(mesh.get_facecolor())[:, 3].reshape(200, 200)
    x, y = (edges[:-1] + np.diff(edges) / 2 for edges in (np.linspace(-1.08, 1.08, 201),) * 2)
    radius = np.hypot(*np.meshgrid(x, y))
    assert np.all(alpha[radius > 1.02] == 0)
    inner, outer = alpha[radius < 0.28], alpha[(radius > 0.35) & (radius < 0.95)]
    assert np.mean(inner) > np.mean(outer) + 0.2
    assert np.min(outer[outer > 0]) >= 0.4  # a single one is seen
    assert isinstance(next(c for c in rim(ax).collections), QuadMesh)


def test_the_density_begins_where_dots_would_hide_each_other():
    few, many = (np.exp(-0.1 + 1j * np.linspace(0, 3, n)) for n in (MANY, MANY + 1))
    assert len(dots(unit_disk(few, ax=own_axes()))[COLORS[0]]) == MANY
    assert not dots(unit_disk(many, ax=own_axes()))


@pytest.mark.parametrize(
    "outside", [[1.0, -1.0, 1j], [1.2, -3.0 + 4j], np.exp(1j * np.arange(5)), np.exp(1j * np.arange(5)).astype(np.complex64)]
)
def test_eigenvalues_on_and_outside_the_circle_are_marked_and_counted(outside):
    z = np.concatenate([POLES, np.asarray(outside)]).astype(np.asarray(outside).dtype if np.iscomplexobj(outside) else complex)
    ax = drawn(unit_disk(z, ax=own_axes()))
    np.testing.assert_allclose(dots(ax, "x")[ALARM], dots_of(outside), atol=1e-6)
    assert ax.get_xlim()[1] >= np.max(np.abs(z)) * 1.05
    crosses = dots(rim(ax), "x")[ALARM]
    np.testing.assert_allclose(np.sort(crosses[:, 0]), np.sort(np.angle(outside) / np.pi), atol=1e-6)
    assert np.all(crosses[:, 1] == rim(ax).get_ylim()[1])  # at the edge that stands for the circle
    assert [text.get_text() for text in rim(ax).texts] == [f"× {len(outside)} with |λ| ≥ 1"]
    assert len(dots(rim(ax))[COLORS[0]]) == len(POLES)


def test_no_alarm_inside():
    ax = unit_disk([POLES, np.array([0.1])], ax=own_axes())
    assert not dots(ax, "x")
    assert not dots(rim(ax), "x")
    assert not rim(ax).texts


# the stretched rim


def test_the_rim_shows_angle_and_distance():
    ax = rim(drawn(unit_disk(POLES, ax=own_axes())))
    xy = dots(ax)[COLORS[0]]
    want = np.column_stack([np.angle(POLES) / np.pi, 1 - np.abs(POLES)])
    np.testing.assert_allclose(xy[np.argsort(xy[:, 0])], want[np.argsort(want[:, 0])], rtol=1e-12)
    assert (ax.get_yscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "angle / π", "1 − |λ|")
    np.testing.assert_allclose(ax.get_ylim(), [1, NEAREST])  # the circle is at the top


def test_the_rim_of_real_eigenvalues_is_a_staircase_by_rank():
    ax = rim(drawn(unit_disk([np.array([0.9, 0.5, -0.99]), np.array([0.3])], ax=own_axes())))
    three, one = (patch.get_data() for patch in ax.patches if isinstance(patch, StepPatch))
    np.testing.assert_allclose(three.values, [0.5, 0.1, 0.01], rtol=1e-12)
    np.testing.assert_allclose(three.edges, [0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(one.values, [0.7])
    np.testing.assert_allclose(one.edges, [0, 1])
    assert ax.get_xlabel() == "share of modes, by rank"
    lost = rim(drawn(unit_disk(np.array([0.5, 1.0, 2.0, 0.9]), ax=own_axes())))
    (patch,) = (patch for patch in lost.patches if isinstance(patch, StepPatch))
    np.testing.assert_allclose(patch.get_data().values, [0.5, 0.1, np.nan, np.nan])
    np.testing.assert_allclose(dots(lost, "x")[ALARM][:, 0], [5 / 8, 7 / 8])


@pytest.mark.parametrize("margin", [1e-8, 1e-12, 1e-300])
def test_the_rim_reaches_as_far_as_the_nearest(margin):
    points = points_of_log_poles(np.array([np.log1p(-margin) + 0.5j, -1.0]))
    np.testing.assert_allclose(points.margin, [margin, -np.expm1(-1)], rtol=1e-15)
    ax = drawn(draw_disk([points], ax=own_axes()))
    assert rim(ax).get_ylim()[1] < margin
    xy = dots(rim(ax))[COLORS[0]]
    np.testing.assert_allclose(np.min(xy[:, 1]), margin, rtol=1e-10)


def test_the_right_hand_axis_reads_in_tokens():
    ax = drawn(stretch([points_of_log_poles(np.array([-0.01 + 1j]))], ax=own_axes()))
    (right,) = ax.child_axes
    np.testing.assert_allclose(right.get_yticks(), [1e-2, 1e-4, 1e-6])
    assert [label.get_text() for label in right.get_yticklabels()] == ["100", "10,000", "1e6"]
    assert right.get_ylabel() == "time constant, tokens"


@pytest.mark.parametrize(
    ("angle", "want"), [(0.5, 0.5), (np.pi, np.pi), (-np.pi, np.pi), (4.0, 4 - 2 * np.pi), (100.0, 100 - 32 * np.pi), (-0.5, -0.5)]
)
def test_angles_are_those_of_the_principal_value(angle, want):
    points = points_of_log_poles(np.array([-0.1 + 1j * angle]))
    np.testing.assert_allclose(points.angle, [want], atol=1e-12)
    np.testing.assert_allclose(points.z, [np.exp(-0.1 + 1j * angle)], rtol=1e-12)


@pytest.mark.parametrize("margin", [1e-5, 1e-9, 1e-16, 1e-300])
def test_a_handful_of_ticks_whatever_the_span(margin):
    ax = rim(draw_disk([points_of_log_poles(np.array([-margin + 1j]))], ax=own_axes()))
    assert 3 <= len(ax.get_yticks()) <= 6
    assert ax.get_yticks()[0] == 1


def test_a_pole_at_zero_is_at_the_bottom():
    ax = drawn(unit_disk(np.array([0.0, 0.5j]), ax=own_axes()))
    assert np.max(dots(rim(ax))[COLORS[0]][:, 1]) == 1


# what is refused


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("wrong", [0.5, "poles", [0.5, 0.9], [POLES, [0.5]], STABLE["complex_siso"], {1: POLES}, None])
def test_only_arrays_are_eigenvalues(wrong):
    with pytest.raises(TypeError, match=r"poles must be an array or a list of arrays, got (float|str|list|DiagonalSSM|dict|NoneType)"):
        unit_disk(wrong)


@pytest.mark.usefixtures("unchecked_annotations")
def test_what_cannot_be_drawn():
    for nothing in ([], (), np.ones(0), [POLES, np.ones(0)]):
        with pytest.raises(ValueError, match=r"poles must hold at least one eigenvalue, got an empty (array|list)"):
            unit_disk(nothing)
    for bad in (np.nan, np.inf, complex(0, np.nan)):
        with pytest.raises(ValueError, match="poles must be finite, got NaN or infinite eigenvalues"):
            unit_disk(np.array([0.5, bad]))
    for labels in ([], ["a"], ["a", "b", "c"]):
        with pytest.raises(ValueError, match=f"labels must have one entry for each of the 2 arrays of poles, got {len(labels)}"):
            unit_disk([POLES, POLES], labels=labels)
    with pytest.raises(ValueError, match="there must be at least one family to draw, got none"):
        initial.initial_unit_disks([])
    assert plt.get_fignums() == []


# pyplot


def test_axes_of_ones_own_leave_no_state_behind():
    ax = own_axes()
    assert unit_disk(POLES, ax=ax) is ax
    stretch([points_of_log_poles(np.array([-0.1]))], ax=own_axes())
    assert plt.get_fignums() == []
    mine = plt.figure().add_subplot()
    unit_disk(POLES, ax=mine)
    assert len(plt.get_fignums()) == 1


def test_without_axes_there_is_one_new_figure():
    ax = unit_disk(POLES)
    assert isinstance(ax, Axes)
    assert plt.get_fignums() == [ax.figure.number]
    assert stretch([points_of_log_poles(np.array([-0.1]))]).figure is not ax.figure


def test_plots_take_what_poles_returns():
    sys = STABLE["complex_batch"]
    assert isinstance(sys, DiagonalSSM)
    assert len(dots(unit_disk(sys.poles(), ax=own_axes()))[COLORS[0]]) == 24


# the figure of all families


@pytest.fixture(scope="module")
def panels():
    return initial_eigenvalues(d_model=2, d_state=4, seed=1)


def test_the_numbers_are_exactly_those_drawn(panels, monkeypatch):
    received, really = [], initial.draw_disk
    monkeypatch.setattr(initial, "draw_disk", lambda series, **keywords: received.append((series, keywords)) or really(series, **keywords))
    figure = initial.initial_unit_disks(panels)
    figure.draw_without_rendering()
    data = initial_data(panels)
    assert len(received) == len(figure.axes) == len(data) == len(panels)
    for entry, (series, keywords) in zip(data, received, strict=True):
        selective = len(series) == 2
        assert keywords["labels"] == (["input 1", "input 2"] if selective else None)
        for numbers, points in zip(entry["series"], series, strict=True):
            np.testing.assert_array_equal(points.margin, numbers["one_minus_abs"])
            z = np.array(numbers["real"]) + 1j * np.array(numbers["imag"])
            np.testing.assert_allclose(points.z, z, atol=4e-16)
            np.testing.assert_allclose(np.exp(1j * points.angle), z / np.abs(z), atol=4e-15)


def test_every_panel_carries_its_setting(panels):
    figure = initial.initial_unit_disks(panels)
    for panel, ax in zip(panels, figure.axes, strict=True):
        assert ax.get_title() == panel.title
        words = "\n".join(text.get_text() for text in ax.texts)
        assert panel.setting in words
        assert panel.matrix in words
        assert (ax.get_legend() is not None) == (len(panel.series) == 2)
    assert plt.get_fignums() == []


def test_an_ill_conditioned_matrix_is_said_to_be_one(panels):
    from dataclasses import replace

    figure = initial.initial_unit_disks([replace(panels[0], condition=5.3e45)])
    assert "eigenvector condition 1e45" in "".join(text.get_text() for text in figure.axes[0].texts)


@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_the_layout_holds_for_any_number_of_panels(panels, tmp_path: Path, count):
    """No warning of a collapsed layout, no disk over another."""
    figure = initial.initial_unit_disks(panels[:count])
    figure.savefig(tmp_path / "figure.png", dpi=50)
    boxes = [ax.get_window_extent() for ax in figure.axes] + [rim(ax).get_window_extent() for ax in figure.axes]
    for i, a in enumerate(boxes):
        assert a.width > 40
        assert figure.bbox.containsx(a.x0)
        assert figure.bbox.containsx(a.x1)
        assert figure.bbox.containsy(a.y0)
        assert figure.bbox.containsy(a.y1)
        assert not any(a.overlaps(b) for b in boxes[:i])
