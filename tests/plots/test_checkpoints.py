"""One picture of a checkpoint: the numbers in it are those of the analyses, read back from the artists."""

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from ssm_analysis import FAMILIES, details, frequency_response, hinf_norm, hsv, impulse_response, inspect, load
from ssm_analysis.analyses.gramians.energy import energy_beyond
from ssm_analysis.checkpoint import CheckpointError
from ssm_analysis.cli import main
from ssm_analysis.cli.output import save
from ssm_analysis.inspection.examined import ExaminedLayer
from ssm_analysis.inspection.poles_of_layers import LayerPoles
from ssm_analysis.plots import checkpoints
from ssm_analysis.plots.channels import CHANNELS, WIDE, frequencies, kernel_length, kernels, responses, smoothed, stable_channels
from ssm_analysis.plots.checkpoints import DRAWN, NEEDS_SYSTEM, checkpoint_picture
from ssm_analysis.plots.disk import ALARM, BINS, COLORS, MANY, Points, disk
from ssm_analysis.plots.layer_curves import LEGEND, shortened
from ssm_analysis.plots.spectra import draw_spectra, layer_modes, wrapped
from ssm_analysis.plots.time_constants import FASTEST, SLOWEST, Modes, in_words, modes_of_log_poles, rate_percentiles, tau_limits
from tests.support.every_family import EVERY_FAMILY, SELECTIVE_FAMILIES
from tests.support.families_table import LAYERS, SELECTIVE, TIME_INVARIANT, fresh, trained, with_params
from tests.support.memory import forget_peak, needs_books, peak


@pytest.fixture(autouse=True)
def nothing_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert plt.get_fignums() == []


def pairs(x):
    return np.stack([x.real, x.imag], axis=-1)


def stored(layer):
    """The tensors of a layer under the names of state-spaces/s4 v4, lindermanlab/S5, or of the family itself."""
    p = dict(layer.params)
    if layer.family == "s5":
        return {**p, "B": pairs(p["B"]), "C": pairs(p["C"]), "log_step": p["log_step"].reshape(-1, 1)}
    if layer.family not in ("s4", "s4d"):
        return p
    kernel = {name: p[name] for name in ("inv_dt", "A_real", "A_imag")}
    kernel |= {"B": pairs(p["B"])[None], "C": pairs(p["C"])}
    if layer.family == "s4":
        kernel |= {"P": pairs(p["P"]), "l_kernel": np.array(0)}
    return {**{f"kernel.{name}": x for name, x in kernel.items()}, "D": p["D"]}


def stack(*layers):
    """A state dict with these layers."""
    return {f"layers.{i}.ssm.{name}": np.asarray(x, order="C") for i, layer in enumerate(layers) for name, x in stored(layer).items()}


def s4ds(count, **sizes):
    return [trained(fresh("s4d", seed=i, **sizes), seed=i) for i in range(count)]


def drawn(picture, source, **how):
    figure = checkpoint_picture(picture, source, **how)
    figure.draw_without_rendering()
    return figure


def xy(ax, color=None, marker=None):
    """The points of all lines of this look, in order."""
    some = [
        line
        for line in ax.lines
        if (color is None or to_hex(line.get_color()) == color) and (marker is None or line.get_marker() == marker)
    ]
    return np.concatenate([np.column_stack(line.get_data()) for line in some]) if some else np.zeros((0, 2))


def by_rows(points):
    return points[np.lexsort(points.T)]


def rings(ax):
    """The circled points."""
    return np.concatenate([line.get_xydata() for line in ax.lines if line.get_markerfacecolor() == "none" and line.get_marker() == "o"])


def words(figure):
    return figure.get_suptitle()


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# the unit disk


def test_disk_and_time_constants_are_those_of_the_layers():
    source = stack(*s4ds(3))
    layers = load(source)
    mu = np.concatenate([layer.spectrum().log_poles.reshape(-1) for layer in layers.values()])
    figure = drawn("unit-disk", source)
    where, angle, depth = figure.axes
    np.testing.assert_allclose(by_rows(xy(where, COLORS[0])), by_rows(np.column_stack([np.exp(mu).real, np.exp(mu).imag])), atol=1e-14)
    principal = np.angle(np.exp(1j * mu.imag)) / np.pi
    np.testing.assert_allclose(by_rows(xy(angle, COLORS[0])), by_rows(np.column_stack([principal, -1 / mu.real])), rtol=1e-9, atol=1e-12)
    slowest = np.argsort(-mu.real)[:SLOWEST]
    np.testing.assert_allclose(by_rows(rings(angle)), by_rows(np.column_stack([principal, -1 / mu.real])[slowest]), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(by_rows(rings(where)), by_rows(np.column_stack([np.exp(mu).real, np.exp(mu).imag])[slowest]), atol=1e-14)
    rows = inspect(source, norms=False)
    np.testing.assert_allclose(xy(depth, marker="o"), [[i, row["time_constant_median"]] for i, row in enumerate(rows)], rtol=1e-13)
    extremes, band = (np.array(c.get_segments()) for c in depth.collections if isinstance(c, LineCollection))
    np.testing.assert_allclose(extremes[:, 1, 1], [row["time_constant_max"] for row in rows], rtol=1e-13)
    rates = [-layer.spectrum().log_poles.real for layer in layers.values()]
    np.testing.assert_allclose(extremes[:, 0, 1], [1 / np.max(r) for r in rates], rtol=1e-13)
    np.testing.assert_allclose(band[:, 1, 1], [1 / np.percentile(r, 5) for r in rates], rtol=1e-13)
    np.testing.assert_allclose(band[:, 0, 1], [1 / np.percentile(r, 95) for r in rates], rtol=1e-13)
    assert words(figure).startswith(
        f"state dict: 3 layers of S4D, {len(mu)} eigenvalues\nmatrix: diagonal, exact from the parameters, one of each"
    )


def test_one_layer_has_no_panel_by_depth():
    source = stack(*s4ds(3))
    figure = drawn("unit-disk", source, layer="layers.1.ssm")
    assert len(figure.axes) == 2
    mu = load(source)["layers.1.ssm"].spectrum().log_poles.reshape(-1)
    np.testing.assert_allclose(
        by_rows(xy(figure.axes[0], COLORS[0])), by_rows(np.column_stack([np.exp(mu).real, np.exp(mu).imag])), atol=1e-14
    )
    assert words(figure).startswith(f"layer layers.1.ssm of state dict, S4D: {mu.size} eigenvalues")


@pytest.mark.parametrize("picture", DRAWN)
def test_the_only_layer_of_a_checkpoint_is_drawn_channel_by_channel(picture):
    source = stack(*s4ds(1))
    alone, asked = (drawn(picture, source, **how) for how in ({}, {"layer": "layers"}))
    assert words(alone) == words(asked)
    assert [ax.get_title() for ax in alone.axes] == [ax.get_title() for ax in asked.axes]


def test_real_eigenvalues_of_selective_layers_at_the_bias():
    layers = [trained(fresh("s6", seed=i), seed=i, scale=0.5) for i in range(4)]
    figure = drawn("unit-disk", stack(*layers))
    where, depth = figure.axes
    rates = [-layer.at_bias() for layer in layers]
    (rug,) = (c for c in where.collections if isinstance(c, LineCollection))
    np.testing.assert_allclose(
        np.sort(np.array(rug.get_segments())[:, 0, 0]), np.sort(np.exp(-np.concatenate(rates, axis=None))), rtol=1e-13
    )
    np.testing.assert_allclose(xy(depth, marker="o")[:, 1], [1 / np.median(r) for r in rates], rtol=1e-13)
    assert "matrix: A with the step of the bias alone (each token gives others)" in words(figure)


def test_real_eigenvalues_of_one_layer_by_rank():
    layer = trained(fresh("rg_lru", d_model=20), scale=1.0)
    figure = drawn("unit-disk", stack(layer))
    tau = np.sort(-1 / layer.at_bias(), axis=None)[::-1]
    (curve,) = (line for line in figure.axes[1].lines if to_hex(line.get_color()) == COLORS[0] and line.get_markerfacecolor() != "none")
    np.testing.assert_allclose(curve.get_ydata(), tau, rtol=1e-13)
    np.testing.assert_allclose(curve.get_xdata(), 100 * (np.arange(20) + 0.5) / 20, rtol=1e-13)
    np.testing.assert_allclose(rings(figure.axes[1])[:, 1], tau[:SLOWEST], rtol=1e-13)


def unstable_lru():
    """Two eigenvalues on the circle and one so near that |lambda| rounds to 1."""
    layer = fresh("lru", d_state=8, r_min=0.5, r_max=0.9)
    nu_log = layer.params["nu_log"].copy()
    nu_log[:3] = (-800.0, -800.0, -40.0)  # exp(-exp(-800)) is 1
    return with_params(layer, nu_log=nu_log)


def test_alarm_on_the_circle_and_only_there():
    source = stack(fresh("lru", r_min=0.5), unstable_lru())
    where, angle, depth = drawn("unit-disk", source).axes
    lost = load(source)["layers.1.ssm"].spectrum().log_poles[:2]
    np.testing.assert_allclose(by_rows(xy(where, ALARM)), by_rows(np.column_stack([np.exp(lost).real, np.exp(lost).imag])), atol=1e-15)
    top = angle.get_ylim()[1]
    np.testing.assert_allclose(np.sort(xy(angle, ALARM)[:, 0]), np.sort(np.angle(np.exp(lost)) / np.pi), atol=1e-15)
    assert np.all(xy(angle, ALARM)[:, 1] == top)
    np.testing.assert_array_equal(xy(depth, ALARM), [[1, top]])
    np.testing.assert_allclose(np.max(rings(angle)[:, 1]), math.exp(40), rtol=1e-12)  # never from a rounded |lambda|
    assert top >= math.exp(40)
    assert legend(where) == ["eigenvalues", f"the {SLOWEST} slowest of them", "2 with |λ| ≥ 1: unstable"]
    assert not len(xy(drawn("unit-disk", stack(fresh("lru", r_min=0.5))).axes[0], ALARM))


def test_far_outside_and_at_zero():
    """A pole 0 has no angle worth a decade, and one at e^800 does not turn the disk into a dot."""
    poles = LayerPoles(log_poles=np.array([-np.inf, -1.0, 800.0, -1e-3]), matrix="m", one_of_each_pair=False, trusted=True)
    figure = draw_spectra([layer_modes("a", "lru", poles)] * 2, title="t")
    figure.draw_without_rendering()
    where, depth = figure.axes
    assert where.get_xlim()[1] < 3.3
    assert legend(where)[-1] == "2 with |λ| ≥ 1: unstable, those beyond 3 drawn at 3"
    assert depth.get_ylim()[0] == FASTEST


def test_where_only_the_slowest_is_known():
    known = LayerPoles(log_poles=np.array([-0.1 + 1j, -0.5 - 2j]), matrix="m", one_of_each_pair=False, trusted=True)
    guessed = LayerPoles(
        log_poles=np.array([-0.2, -0.001]), matrix="only its largest |lambda| is known", one_of_each_pair=False, trusted=False
    )
    figure = draw_spectra([layer_modes("a", "s4", known), layer_modes("b", "s4", guessed)], title="t")
    figure.draw_without_rendering()
    where, angle, depth = figure.axes
    assert len(xy(where, COLORS[0])) == len(xy(angle, COLORS[0])) == 2
    (ring,) = (line.get_xydata() for line in where.lines if line.get_linestyle() == ":")
    np.testing.assert_allclose(np.hypot(*ring.T), np.full(len(ring), math.exp(-0.001)), rtol=1e-14)
    np.testing.assert_allclose(xy(depth, marker="v"), [[1, 1000]], rtol=1e-12)
    np.testing.assert_array_equal(xy(depth, marker="o")[:, 0], [0])
    assert legend(where)[-1] == "largest |λ| of 1 layer, where no other is known"
    alone = draw_spectra([layer_modes("b", "s4", guessed)], title="t")
    alone.draw_without_rendering()
    assert legend(alone.axes[0]) == ["largest |λ| of 1 layer, where no other is known"]


@pytest.mark.parametrize("count", [1, 64, MANY, MANY + 1])
def test_readable_for_any_number(count, rng):
    modes = modes_of_log_poles(-rng.uniform(1e-4, 1, count) + 1j * rng.uniform(-9, 9, count))
    poles = LayerPoles(log_poles=-modes.rate + 1j * modes.angle, matrix="m", one_of_each_pair=False, trusted=True)
    where, angle = (figure := draw_spectra([layer_modes("", "lru", poles)], title="t")).axes
    figure.draw_without_rendering()
    dense = count > MANY
    for ax in (where, angle):
        meshes = [c for c in ax.collections if isinstance(c, QuadMesh)]
        assert (len(meshes), len(xy(ax, COLORS[0]))) == ((1, 0) if dense else (0, count))
        assert all(mesh.get_rasterized() for mesh in meshes)
        assert len(rings(ax)) == min(count, SLOWEST)
    assert legend(where)[0] == ("eigenvalues (darker: more)" if dense else "eigenvalues")


def test_many_real_eigenvalues_are_a_histogram(rng):
    x = rng.beta(8, 2, 3 * MANY)
    (ax,) = [Figure().add_subplot()]
    disk([Points(angle=np.zeros(len(x)), margin=1 - x)], ax=ax)
    (patch,) = (p for p in ax.patches if isinstance(p, StepPatch))
    heights, edges, base = patch.get_data()
    counts, _ = np.histogram(x, bins=BINS, range=(-1.08, 1.08))
    np.testing.assert_allclose(edges, np.linspace(-1.08, 1.08, BINS + 1), atol=1e-15)
    np.testing.assert_allclose(heights, -base)
    assert np.all((heights > 0) == (counts > 0))
    seen = counts > 0
    np.testing.assert_allclose(np.diff(heights[seen]) / np.max(heights), np.diff(counts[seen]) / np.max(counts) * 2.9 / 3, atol=1e-12)


def test_many_outside_are_a_density_in_the_color_of_alarm():
    ax = Figure().add_subplot()
    disk([Points(angle=np.linspace(0, 3, MANY + 1), margin=np.full(MANY + 1, -0.5))], ax=ax)
    ax.figure.draw_without_rendering()
    colors = {to_hex(mesh.get_facecolor()[np.argmax(mesh.get_facecolor()[:, 3])]) for mesh in ax.collections if isinstance(mesh, QuadMesh)}
    assert colors == {COLORS[0], ALARM}


def test_the_limits_are_decades_that_hold_everything():
    assert tau_limits([np.array([1 / 50])]) == (1.0, 100.0)
    assert tau_limits([np.array([1 / 5000, 2.0])]) == (FASTEST, 1e4)
    assert tau_limits([np.array([-1.0, 0.0])]) == (1.0, 100.0)
    assert tau_limits([np.zeros(0), np.array([np.inf, 1e-12])]) == (FASTEST, 1e13)
    assert [in_words(d) for d in (-1, 0, 3, 5, 6)] == ["0.1", "1", "1,000", "100,000", "$10^{6}$"]
    np.testing.assert_allclose(rate_percentiles(np.array([np.inf, 1.0, 2.0]))[[0, 2]], [1, 2])


def test_the_slowest_are_those_nearest_to_the_circle_inside_it(rng):
    rate = rng.permutation(np.concatenate([np.linspace(-1, 0, 30), np.linspace(1e-6, 1, 100)]))
    modes = Modes(angle=np.zeros(130), rate=rate)
    np.testing.assert_array_equal(rate[modes.slowest], np.sort(rate[rate > 0])[:SLOWEST])


def synthetic(kind, rng):
    """A checkpoint with 5,000,000 eigenvalues: Mamba's real ones, or S4D's."""
    if kind == "s4d":
        H, n, normal = 3125, 32, rng.standard_normal
        return {
            f"layers.{i}.{name}": np.asarray(x, dtype=np.float32)
            for i in range(50)
            for name, x in {
                "kernel.inv_dt": rng.uniform(-7, -2.3, (H, 1)), "kernel.A_real": normal((H, n)),
                "kernel.A_imag": np.pi * np.tile(np.arange(n), (H, 1)),
                "kernel.B": np.ones((1, H, n, 2)), "kernel.C": np.ones((1, H, n, 2)), "D": np.ones((1, H)),
            }.items()
        }  # fmt: skip
    C = 5000
    shapes = {"D": (C,), "in_proj.weight": (2 * C, 4), "conv1d.weight": (C, 1, 4), "x_proj.weight": (33, C), "dt_proj.weight": (C, 1)}
    return {
        f"backbone.layers.{i}.mixer.{name}": np.asarray(x, dtype=np.float32)
        for i in range(63)
        for name, x in {
            "A_log": np.log(np.tile(np.arange(1, 17), (C, 1))), "dt_proj.bias": rng.uniform(-7, -2.3, C),
            **{name: np.zeros(shape) for name, shape in shapes.items()},
        }.items()
    }  # fmt: skip


@pytest.mark.slow
@needs_books
@pytest.mark.parametrize(("kind", "count", "suffix"), [("s4d", 5_000_000, "svg"), ("s6", 5_040_000, "pdf")])
def test_five_million_eigenvalues(kind, count, suffix, rng):
    source = synthetic(kind, rng)
    forget_peak()
    before, start = peak(), time.process_time()
    figure = checkpoint_picture("unit-disk", source)
    for name in (f"a.{suffix}", "a.png"):
        save(figure, Path(name))
        assert 10_000 < Path(name).stat().st_size < 1_000_000
    assert f"{count:,} eigenvalues" in words(figure)
    assert time.process_time() - start < 60  # measured: 8; nothing goes over the eigenvalues one by one
    assert peak() - before < 2000
    if kind == "s4d":  # the density holds every one of them
        (mesh,) = (c for c in figure.axes[1].collections if isinstance(c, QuadMesh))
        assert np.count_nonzero(mesh.get_facecolor()[:, 3]) > 5000


# curves


def channels_of(layer):
    system = layer.system()
    mu = layer.spectrum().log_poles
    found = stable_channels(layer, system, LayerPoles(log_poles=mu, matrix="", one_of_each_pair=False, trusted=True))
    assert found is not None
    return found


@pytest.mark.parametrize("name", [n for n in TIME_INVARIANT if n not in ("s4_legt",)])
def test_responses_and_kernels_are_those_of_the_analyses(name):
    layer = LAYERS[name]()
    found = channels_of(layer)
    system = layer.system() if layer.system().batch_shape else layer.system()[None]
    order = np.argsort(np.min(-np.real(layer.spectrum().log_poles).reshape(len(system), -1), axis=-1), kind="stable")
    omega = frequencies(found)
    assert np.all(np.diff(omega) > 0)
    assert omega[-1] == math.pi
    G = frequency_response(system, omega)[order]
    np.testing.assert_allclose(np.abs(responses(found, omega)), np.linalg.norm(G, 2, axis=(-2, -1)), rtol=1e-11)
    length = kernel_length(found)
    lags, K = kernels(found, length)
    whole = np.linalg.norm(impulse_response(system, length), axis=(-2, -1))[order]
    np.testing.assert_allclose(np.abs(K), whole[:, lags.astype(int)], rtol=1e-8, atol=1e-8 * np.max(whole))


@pytest.mark.parametrize("name", ["lru", "lru_ring", "s5", "s5_all_modes"])
def test_no_peak_of_a_wide_system_is_missed(name):
    layer = LAYERS[name]()
    found = channels_of(layer)
    peak_gain = float(hinf_norm(layer.system()))
    assert 0.8 * peak_gain < np.max(responses(found, frequencies(found))) <= peak_gain * (1 + 1e-9)


@pytest.mark.parametrize("name", ["lru", "s5"])
def test_gains_of_many_inputs_to_drawing_accuracy(name, rng):
    layer = trained(fresh(name, d_model=WIDE + 8, d_state=32))
    found = channels_of(layer)
    omega = frequencies(found)[::20]
    want = np.linalg.norm(frequency_response(layer.system(), omega), 2, axis=(-2, -1))
    got = responses(found, omega)[0]
    np.testing.assert_allclose(got, want, rtol=0.01)
    assert np.all(got <= want * (1 + 1e-9))  # from below


def test_what_is_cut_off_is_not_heard(rng):
    """99 % of the energy of the longest kernel lies before the end of the picture."""
    found = channels_of(trained(fresh("s4d", d_model=16)))
    proper = replace(found.system, D=0 * found.system.D)
    assert np.all(energy_beyond(proper, (kernel_length(found) - 1,)) < 0.01)


def test_smoothed_kernels_keep_their_energy(rng):
    K = rng.standard_normal((3, 500))
    lags, size = smoothed(np.arange(500.0), K)
    np.testing.assert_allclose(size[:, :3], np.abs(K[:, :3]))
    assert np.all(np.diff(lags) > 0)
    assert 30 < len(lags) < 60
    np.testing.assert_allclose(smoothed(np.arange(500.0), np.full((1, 500), -2.0))[1], np.full((1, len(lags)), 2.0))


def test_bode_of_one_layer():
    layer = trained(fresh("s4d", d_model=20))
    figure = drawn("bode", stack(layer))
    upper, lower = figure.axes
    found = channels_of(layer)
    gain = 20 * np.log10(np.abs(responses(found, frequencies(found))))
    middle = next(line for line in upper.lines if str(line.get_label()).startswith("median of 20"))
    np.testing.assert_allclose(middle.get_ydata(), np.median(gain, axis=0), rtol=1e-12)
    np.testing.assert_allclose(upper.lines[1].get_ydata(), np.min(gain, axis=0), rtol=1e-12)
    np.testing.assert_allclose(upper.lines[2].get_ydata(), np.max(gain, axis=0), rtol=1e-12)
    slowest = found.system[0]
    w, phase = lower.lines[0].get_data()
    G = frequency_response(slowest, np.asarray(w))[:, 0, 0]
    np.testing.assert_allclose(np.exp(1j * np.pi * np.asarray(phase)), G / np.abs(G), atol=1e-10)
    assert np.max(np.abs(np.diff(phase))) < 0.7  # so many points that no turn is missed
    assert (upper.get_xscale(), upper.get_ylabel(), lower.get_ylabel()) == ("log", "gain, dB", "phase / π")
    assert lower.get_xlabel().startswith("frequency, rad/token")
    assert legend(upper)[1].startswith("slowest channel\n(up to ")


def test_bode_of_a_wide_layer_is_the_largest_singular_value():
    layer = trained(fresh("s5", d_model=5))
    figure = drawn("bode", stack(layer))
    (ax,) = figure.axes
    w, gain = ax.lines[0].get_data()
    G = frequency_response(layer.system(), np.asarray(w))
    np.testing.assert_allclose(gain, 20 * np.log10(np.linalg.norm(G, 2, axis=(-2, -1))), rtol=1e-11)
    assert ax.get_ylabel() == "largest singular value, dB"
    assert words(figure).endswith("one system, 5 inputs and 5 outputs")


def test_impulse_of_one_layer():
    layer = trained(fresh("s4d", d_model=5))
    figure = drawn("impulse", stack(layer))
    found = channels_of(layer)
    K = impulse_response(found.system, kernel_length(found))[..., 0, 0]
    for ax, i in zip(figure.axes[1:], (0, 2, 4), strict=True):
        np.testing.assert_allclose(ax.lines[0].get_data(), [np.arange(1, K.shape[1]), K[i, 1:]], atol=1e-13)
        assert f"D = {K[i, 0]:.3g}" in ax.texts[0].get_text()
    assert figure.axes[-1].get_xlabel().startswith("lag, tokens")
    assert figure.axes[-1].get_xscale() == "symlog"


def test_hankel_singular_values_of_one_layer_and_of_all():
    layers = s4ds(3)
    sigma = [hsv(layer.system()) for layer in layers]
    (ax,) = drawn("hsv", stack(*layers)).axes
    for line, s in zip(ax.lines, sigma, strict=False):
        np.testing.assert_allclose(line.get_ydata(), np.median(s / s[:, :1], axis=0), rtol=1e-10)
    (one,) = drawn("hsv", stack(*layers), layer="layers.2.ssm").axes
    got = np.array([line.get_ydata() for line in one.lines[:4]])
    np.testing.assert_allclose(by_rows(got), by_rows(sigma[2] / sigma[2][:, :1]), rtol=1e-9)
    assert (ax.get_yscale(), ax.get_ylabel()) == ("log", "Hankel singular value, relative to the first")


def at(line, lag):
    x, y = (np.asarray(a) for a in line.get_data())
    return y[np.flatnonzero(x == lag)[0]]


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_shares_are_those_of_the_details(family):
    layer = trained(fresh(family, d_model=8), scale=0.5)
    source = stack(layer, fresh(family, d_model=8))
    (one,) = drawn("memory", source, layer="layers.0.ssm").axes
    want = details(load(source)["layers.0.ssm"])["memory"]
    for entry in want[:3]:
        assert at(one.lines[0], entry["lag"]) == pytest.approx(100 * entry["modes"])
        if entry["energy"] is not None:
            assert at(one.lines[-1], entry["lag"]) == pytest.approx(100 * entry["energy"], abs=1e-9)
    figure = drawn("memory", source)
    assert at(figure.axes[0].lines[0], 100) == pytest.approx(100 * want[1]["modes"])
    if layer.time_varying:
        assert words(figure).endswith("at the step of the bias alone")
        assert len(figure.axes) == 1
    else:
        assert at(figure.axes[1].lines[0], 100) == pytest.approx(100 * want[1]["energy"])
    assert (one.get_xscale(), one.get_xlabel(), one.get_ylabel()) == ("log", "lag, tokens", "share beyond the lag, %")


def test_a_time_constant_of_just_the_lag_counts():
    poles = LayerPoles(log_poles=np.array([-0.1, -0.2, 0.0, -np.inf]), matrix="", one_of_each_pair=False, trusted=True)
    np.testing.assert_array_equal(checkpoints._modes_beyond(poles, np.array([5.0, 10.0, 11.0])), [0.75, 0.5, 0.25])


def test_lines_of_many_layers():
    source = stack(*s4ds(3))
    (gain,) = drawn("bode", source).axes
    (size,) = drawn("impulse", source).axes
    for i, layer in enumerate(load(source).values()):
        found = channels_of(layer)
        omega = frequencies(found)
        want = np.median(20 * np.log10(np.abs(frequency_response(layer.system(), omega)[..., 0, 0])), axis=0)
        np.testing.assert_allclose(gain.lines[i].get_data(), [omega, want], rtol=1e-10, atol=1e-10)
        K = impulse_response(layer.system(), kernel_length(found))[..., 0, 0]
        np.testing.assert_allclose(size.lines[i].get_ydata()[:3], np.median(np.abs(K[:, :3]), axis=0), rtol=1e-10)
    assert legend(gain) == [f"layers.{i}.ssm" for i in range(3)]


@pytest.mark.parametrize("count", [LEGEND, LEGEND + 1])
def test_a_legend_for_few_and_a_color_bar_for_many(count):
    figure = drawn("hsv", stack(*s4ds(count, d_model=2, d_state=4)))
    if count <= LEGEND:
        (ax,) = figure.axes
        assert legend(ax) == [f"layers.{i}.ssm" for i in range(count)]
    else:
        ax, bar = figure.axes
        assert ax.get_legend() is None
        assert bar.get_ylabel() == "layer, in the order of depth"
        assert bar.get_ylim() == (0, count - 1)
    assert len({to_hex(line.get_color()) for line in ax.lines[:count]}) == count


def test_of_many_channels_some_are_drawn():
    layer = trained(fresh("s4d", d_model=CHANNELS + 100, d_state=2))
    found = channels_of(layer)
    assert (len(found.slowest), found.total) == (CHANNELS, CHANNELS + 100)
    rates = np.sort(np.min(-layer.spectrum().log_poles.real, axis=-1))
    assert found.slowest[0] == pytest.approx(rates[0])
    assert found.slowest[-1] == pytest.approx(rates[-1])
    assert np.all(np.diff(found.slowest) >= 0)
    assert found.words == f"{CHANNELS} of {CHANNELS + 100} channels"


# what is left out and what is refused


def half_stable():
    """S4D with one channel of four that grows."""
    layer = fresh("s4d")
    A_real = np.full((4, 4), np.log(0.5))
    params = {**layer.params, "A_real": A_real, "A_imag": np.tile(layer.params["A_imag"], (4, 1)), "B": np.tile(layer.params["B"], (4, 1))}
    params["A_real"][1] = -800.0  # exp(-800) = 0: on the circle
    return replace(layer, params=params)


@pytest.mark.parametrize("picture", [*NEEDS_SYSTEM, "memory"])
def test_unstable_channels_are_left_out_and_said(picture):
    source = stack(half_stable(), fresh("s4d"))
    assert "3 of 4 channels; 1 unstable left out" in words(drawn(picture, source, layer="layers.0.ssm"))
    drawn(picture, source)


@pytest.mark.parametrize("picture", NEEDS_SYSTEM)
def test_layers_without_a_stable_channel(picture):
    lost = unstable_lru()
    assert "1 layer of LRU; 1 unstable left out" in words(drawn(picture, stack(lost, fresh("lru", r_min=0.5))))
    with pytest.raises(ValueError, match=r"^layer 'layers.0.ssm' has no stable channel: .* ssm-analysis plot unit-disk"):
        checkpoint_picture(picture, stack(lost))
    with pytest.raises(ValueError, match=r"^none of the 2 layers has a stable channel: without one there is no frequency response"):
        checkpoint_picture(picture, stack(lost, lost))


def test_the_memory_of_an_unstable_layer_is_that_of_its_modes():
    lost = unstable_lru()
    figure = drawn("memory", stack(lost))
    (line,) = figure.axes[0].lines
    assert at(line, 10) >= 100 * 3 / 8
    assert line.get_ydata()[-1] == pytest.approx(100 * 3 / 8)  # two never decay, one hardly
    assert len(drawn("memory", stack(lost, fresh("lru", r_min=0.5))).axes[1].lines) == 1


@pytest.mark.parametrize("picture", NEEDS_SYSTEM)
@pytest.mark.parametrize("name", SELECTIVE_FAMILIES)
def test_selective_layers_have_none_of_these_without_an_input(picture, name):
    title = FAMILIES[name].title.replace("(", r"\(").replace(")", r"\)")
    message = (
        rf" has no {NEEDS_SYSTEM[picture]} without an input: .* \({title}\); draw unit-disk or memory, .*layer.along\(u\).frozen\(at\)"
    )
    with pytest.raises(ValueError, match=f"^this checkpoint{message}"):
        checkpoint_picture(picture, stack(fresh(name)))
    with pytest.raises(ValueError, match=rf"^layer 'layers.0.ssm'{message}"):
        checkpoint_picture(picture, stack(fresh(name), fresh("lru")), layer="layers.0.ssm")
    figure = drawn(picture, stack(fresh(name), *s4ds(2)))
    assert words(figure).split("\n")[0].endswith("state dict: 2 layers of S4D; 1 selective layer left out")


def test_selective_layers_that_are_not_drawn_are_not_read(monkeypatch):
    read = []
    really = checkpoints.examine
    monkeypatch.setattr(checkpoints, "examine", lambda layer: read.append(layer.family) or really(layer))
    drawn("hsv", stack(fresh("s6"), *s4ds(2)))
    assert read == ["s4d", "s4d"]


def test_kernels_that_are_zero():
    silent = with_params(fresh("s4d"), C=0 * fresh("s4d").params["C"], D=0 * fresh("s4d").params["D"])
    with pytest.raises(ValueError, match="all Hankel singular values are 0: no channel passes anything on"):
        checkpoint_picture("hsv", stack(silent, silent))
    for picture in ("memory", "bode", "impulse"):
        drawn(picture, stack(silent))
        drawn(picture, stack(silent, fresh("s4d")))


def test_what_is_not_there():
    source = stack(*s4ds(2))
    with pytest.raises(ValueError, match="picture must be one of unit-disk, bode, impulse, hsv, memory, got 'pie'"):
        checkpoint_picture("pie", source)
    with pytest.raises(KeyError, match=r"layer 'layers\.7' is none of"):
        checkpoint_picture("bode", source, layer="layers.7")
    with pytest.raises(CheckpointError, match="no recurrent layer"):
        checkpoint_picture("unit-disk", {"weight": np.ones((2, 2))})
    nothing_known = LayerPoles(log_poles=np.array([-0.1, 0.5]), matrix="m", one_of_each_pair=False, trusted=False)
    layer = replace(load(source)["layers.0.ssm"])
    one = ExaminedLayer(layer=layer, system=None, poles=nothing_known)
    with pytest.raises(ValueError, match="no layer has modes that are known, nor a stable channel"):
        checkpoints._memory_of_all(iter([one]), "name", "")


# names and files


def test_progress_is_told_layer_by_layer():
    told = []
    checkpoint_picture("unit-disk", stack(*s4ds(3)), progress=lambda done, count: told.append((done, count)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_layers_are_read_as_they_are_asked_for():
    source = stack(fresh("s4d"), fresh("lru"))
    assert "1 layer of LRU, " not in words(drawn("unit-disk", source, family="s4d"))
    a, b = (drawn("bode", stack(*s4ds(2)), assume={"disc": how}).axes[0].lines[0].get_ydata() for how in ("zoh", "bilinear"))
    assert np.max(np.abs(np.asarray(a) - np.asarray(b))) > 1e-3


@pytest.mark.parametrize(("path", "title"), [
    ("model_7b.npz", "model_7b"),
    ("run 3/model.npz", "run 3/model"),
    ("costs $5 and $x_1^2$ {.npz", r"costs \$5 and \$x_1^2\$ {"),
    ("模型.npz", "??"),
    ("a" * 100 + "z.npz", "a" * 29 + "…" + "a" * 29 + "z"),
])  # fmt: skip
def test_titles_name_the_checkpoint(path, title):
    Path(path).parent.mkdir(exist_ok=True)
    np.savez(path, **stack(*s4ds(2, d_model=2, d_state=4)))
    figure = drawn("unit-disk", path)
    assert words(figure).replace("\n", " ").startswith(f"{title}: 2 layers of S4D, 8 eigenvalues")


def test_names_are_shortened_in_the_middle():
    assert shortened("backbone", 8) == "backbone"
    assert shortened("abcdefghij", 6) == "ab…hij"
    assert wrapped("word " * 40, 4.0).count("\n") == 4


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_through_the_program(name, capsys):
    """Written whole, under the asked name, whatever is drawn; or refused with what to do."""
    layer = trained(fresh(name))
    safetensors.numpy.save_file(stack(layer, fresh(name)), "a.safetensors")
    for picture in DRAWN:
        refused = layer.time_varying and picture in NEEDS_SYSTEM
        for out, one in ((f"{picture}.png", []), (f"{picture}_one.png", ["--layer", "layers.0"])):
            assert main(["plot", "a.safetensors", picture, "--out", out, *one]) == (2 if refused else 0)
            assert ("without an input" in capsys.readouterr().err) == refused
            assert Path(out).exists() != refused
    assert not list(Path().glob(".*"))
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in Path().glob("*.png"))


@pytest.mark.parametrize("name", ["s4_copies_and_channels", "s4d_legs", "s4d_bilinear", "s5_blocks", "s5_all_modes", "lru_ring"])
def test_every_shape_of_layer(name):
    for picture in DRAWN:
        checkpoint_picture(picture, stack(LAYERS[name]()))


def test_the_file_is_written_whole_or_not_at_all(capsys, monkeypatch):
    np.savez("a.npz", **stack(*s4ds(2)))
    Path("unit_disk.png").write_bytes(b"old")

    def full(self, path, **keywords):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Figure, "savefig", full)
        assert main(["plot", "a.npz", "unit-disk"]) == 2
    assert Path("unit_disk.png").read_bytes() == b"old"
    assert main(["plot", "a.npz", "unit-disk"]) == 0
    assert Path("unit_disk.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == "drawn: unit_disk.png\n"
    assert sorted(path.name for path in Path().iterdir()) == ["a.npz", "unit_disk.png"]


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_vector_files(suffix):
    np.savez("a.npz", **stack(*s4ds(2, d_model=64, d_state=64)))
    assert main(["plot", "a.npz", "unit-disk", "--out", f"a.{suffix}"]) == 0
    assert Path(f"a.{suffix}").stat().st_size < 500_000


def test_all_selective_families_are_in_the_list():
    assert {LAYERS[name]().family for name in SELECTIVE} == {"s6", "rg_lru", "mamba2"}
