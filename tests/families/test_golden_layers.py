"""Layers whose original implementations were run: checkpoints as those write them, with inputs and outputs; golden/README.md says how."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ssm_analysis import simulate
from ssm_analysis.checkpoint.loading import load
from tests.families.test_mamba_relatives import relative_error
from tests.support.layout_cases import output

ARCHIVE = Path(__file__).parents[1] / "golden" / "layers.zip"
OPTIONS = ("disc", "dt_transform", "real_transform", "imag_transform")
S4 = ("s4_v3_nplr_legs", "s4_v4_dplr_legs_fresh", "s4_v4_dplr_legs_trained", "s4d_v4_lin_zoh", "s4d_minimal_fresh")
S5_AND_LRU = ("s5_ssm_fresh", "s5_ssm_bidir_C1C2", "lru_fresh_r0_1")


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layers")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder


def opened(folder):
    """How it was made, what came out (in 64 bits), and the checkpoint in each container it is there in."""
    meta = json.loads((folder / "meta.json").read_text())
    with np.load(folder / "ref.npz") as file:
        ref = {name: x.astype(np.result_type(x, np.float64)) for name, x in file.items()}
    paths = [path for path in folder.iterdir() if path.name not in ("meta.json", "ref.npz", "config.json")]
    assert paths, f"no checkpoint in {folder}"
    return meta, ref, paths


@pytest.mark.parametrize("name", S4)
def test_s4(golden, name):
    meta, ref, paths = opened(golden / name)
    said = {option: meta[option] for option in OPTIONS if option in meta and meta["family"] in ("s4", "s4d")}
    channels_first = "(B,H,L)" in meta.get("layout", "") + meta["note"]
    for path in paths:
        layers = load(path, assume=said)
        assert len(ref["u"]) > 0
        for u, y in zip(ref["u"], ref["y_ssm"], strict=True):
            u, y = (u.T, y.T) if channels_first else (u, y)
            assert relative_error(output(layers, u)[..., 0], y) < 6e-6


@pytest.mark.parametrize("name", S5_AND_LRU)
def test_s5_and_lru(golden, name):
    _, ref, paths = opened(golden / name)
    assert len(paths) == 2
    for path in paths:
        layers = load(path)
        assert relative_error(output(layers, ref["u"]), ref["y"]) < 6e-6
        (forward, *_) = layers.values()
        np.testing.assert_allclose(forward.system().poles(), ref["Lambda_bar"], rtol=1e-6)


def test_the_matrices_of_a_mamba_mixer(golden):
    _, ref, paths = opened(golden / "mamba1_mixer_fresh")
    assert len(paths) == 2
    for path in paths:
        (layer,) = load(path).values()
        for u, poles, scanned in zip(ref["x"], ref["Abar_t"], ref["scan_u"], strict=True):
            sys = layer.along(u)
            assert relative_error(sys.poles(), np.moveaxis(poles, 1, 0)) < 1.3e-6
            assert relative_error(layer.core_input(u)[..., 0], scanned.T) < 1.3e-6


def test_a_mamba_language_model(golden):
    _, ref, _ = opened(golden / "mamba1_lm")
    layers = load(golden / "mamba1_lm")
    assert list(layers) == ["backbone.layers.0.mixer", "backbone.layers.1.mixer"]
    for i, layer in enumerate(layers.values()):
        for b, u in enumerate(ref[f"mixer_in_{i}"]):
            delta, B = ref[f"dt_{i}"][b].T, ref[f"B_t_{i}"][b].T
            assert relative_error(layer.along(u).log_poles, delta[:, :, None] * ref[f"A_{i}"]) < 1.3e-6
            assert relative_error(layer.along(u).B[..., 0], delta[:, :, None] * B[:, None, :]) < 1.3e-6
            assert relative_error(layer.core_input(u)[..., 0], ref[f"scan_u_{i}"][b].T) < 1.3e-6


def test_an_rg_lru(golden):
    _, ref, (path,) = opened(golden / "rglru_layer_fresh")
    (layer,) = load(path).values()
    for u, y in zip(ref["x"], ref["y"], strict=True):
        assert relative_error(simulate(layer.along(u), layer.core_input(u))[..., 0], y) < 1.3e-6


def test_hawk(golden):
    _, ref, (path,) = opened(golden / "ssmb_hawk_uniform")
    layers = load(path)
    assert len(layers) == sum(name.startswith("alpha_") for name in ref) > 0
    for i, layer in enumerate(layers.values()):
        for b, u in enumerate(ref[f"rglru_in_{i}"]):
            sys, x = layer.along(u), layer.core_input(u)
            assert relative_error(sys.poles()[..., 0], ref[f"alpha_{i}"][b].T) < 1.3e-6
            # the original's sqrt(1 - alpha^2) in single precision loses 3e-8 / (1 - alpha), with alpha up to 0.9998
            assert relative_error(sys.B[..., 0, 0] * x[..., 0], ref[f"scan_in_{i}"][b].T) < 2e-4
