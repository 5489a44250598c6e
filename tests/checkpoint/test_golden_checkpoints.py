"""Checkpoints that orbax, flax and OmegaConf wrote themselves; golden/README.md says how."""

import shutil
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from ssm_analysis.checkpoint import CheckpointError, open_tensors
from tests.support.checkpoint_files import assert_holds

LAYER = {
    "params/layers_0/Lambda_re": np.array([-0.5, -1.25, -2.0], np.float32),
    "params/layers_0/B": np.array([[1 + 2j, -0.5j]], np.complex64),
    "params/layers_0/D": np.array([1.5, -3.0], ml_dtypes.bfloat16),
    "params/layers_0/a.b": np.array(0.25, np.float16),
}
LIST = {"params/list/0": np.array([7], np.int32)}


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    with zipfile.ZipFile(Path(__file__).parents[1] / "golden" / "checkpoints.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.parametrize("name", ["orbax-0.12.8", "orbax-0.4.8"])
def test_orbax(golden, name):
    with open_tensors(golden / name) as store:
        assert_holds(store, {**LAYER, **LIST, "step": np.array(3)})
        assert store.problems == ()


def test_old_orbax_without_its_list(golden, tmp_path):
    """The file ``checkpoint`` has the tree as well."""
    folder = shutil.copytree(golden / "orbax-0.4.8", tmp_path / "x")
    (folder / "_METADATA").unlink()
    with open_tensors(folder) as store:
        assert_holds(store, {**LAYER, **LIST, "step": np.array(3)})
        assert store.problems == ()


@pytest.mark.parametrize("tensorstore", [True, False])
def test_orbax_in_one_file_needs_no_tensorstore(golden, monkeypatch, tensorstore):
    if not tensorstore:
        monkeypatch.setitem(sys.modules, "tensorstore", None)
    with open_tensors(golden / "orbax-0.4.8-aggregated") as store:
        assert_holds(store, {**LAYER, **LIST})
        assert store.problems == ("left out, not tensors: 'step'",)


def test_the_last_step_of_a_manager(golden):
    with open_tensors(golden / "orbax-0.12.8-manager") as store:
        assert_holds(store, {"params/w": np.array([10.0], np.float32)})
        assert store.problems == ("read from the folder 10/default, the last of 2; left out: '9/default'",)


def test_flax(golden):
    with open_tensors(golden / "flax-0.12.8.msgpack") as store:
        assert_holds(store, {**LAYER, "long": np.arange(30).astype(ml_dtypes.bfloat16).reshape(5, 6)})
        assert store.problems == ("left out, not tensors: 'step'",)


def test_omegaconf(golden):
    """OmegaConf is not installed here: its objects become plain dictionaries and lists."""
    with open_tensors(golden / "omegaconf-2.4.0.ckpt") as store:
        assert_holds(
            store,
            {"model.layers.0.A_log": np.array([0.5, 1.25], np.float32), "model.layers.0.D": np.array([2.0], ml_dtypes.bfloat16)},
        )
        layer = {"dt_transform": "softplus", "disc": "zoh", "lags": [1, {"x": None}], "ref": "${model.n_layers}"}
        assert store.hyper_parameters == {"model": {"layer": layer, "n_layers": 4}, "lr": 1e-3}
        assert store.problems == ()
    assert "omegaconf" not in sys.modules


def test_a_lost_array_of_an_old_folder(golden, tmp_path):
    """The file ``checkpoint`` names it."""
    (tmp_path / "checkpoint").write_bytes((golden / "orbax-0.4.8" / "checkpoint").read_bytes())
    with pytest.raises(CheckpointError, match=r"holds no tensors that could be read; tensor 'params/layers_0/B' left out: NOT_FOUND"):
        open_tensors(tmp_path)
