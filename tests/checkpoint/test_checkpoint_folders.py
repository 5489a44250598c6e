"""Several files of one checkpoint, several checkpoints in one folder, and what is missing."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from ssm_analysis.checkpoint import CheckpointError, open_tensors
from tests.support.checkpoint_files import FILES, assert_holds, tree_of, write_flax, write_orbax, write_safetensors, write_torch

WHOLE = {"a": "model-00001-of-00002.safetensors", "b": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors"}
ORDER = (
    "model.safetensors", "pytorch_model.bin", "flax_model.msgpack", "other.safetensors", "last.ckpt", "step=20.ckpt", "step=3.ckpt",
    "w.msgpack", "w.npz",
)  # fmt: skip


class TestShards:
    @pytest.fixture
    def folder(self, tmp_path):
        write_safetensors(tmp_path / "model-00001-of-00002.safetensors", {"a": np.zeros(2), "b": np.ones(2)})
        write_safetensors(tmp_path / "model-00002-of-00002.safetensors", {"c": np.full(2, 2.0)})
        return tmp_path

    def index(self, folder, weight_map):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        return folder

    def test_index_or_not(self, folder):
        with open_tensors(folder) as numbered:
            assert_holds(numbered, {"a": np.zeros(2), "b": np.ones(2), "c": np.full(2, 2.0)})
        for source in (self.index(folder, WHOLE), folder / "model.safetensors.index.json"):
            with open_tensors(source) as store:
                assert_holds(store, {"a": np.zeros(2), "b": np.ones(2), "c": np.full(2, 2.0)})
                assert store.problems == ()
                assert store.description == "safetensors in 2 of 2 files, 3 tensors"

    def test_a_missing_file_is_told_and_the_rest_is_read(self, folder):
        (self.index(folder, WHOLE) / "model-00002-of-00002.safetensors").unlink()
        with open_tensors(folder) as store:
            assert set(store.shapes) == {"a", "b"}
            assert "missing or unreadable" in store.problems[0]
            assert "model-00002-of-00002.safetensors" in store.problems[0]
            assert "missing: 1 tensors of the index, 'c'" in store.problems[1]

    def test_without_index_the_numbers_tell_what_is_missing(self, folder):
        (folder / "model-00001-of-00002.safetensors").unlink()
        with open_tensors(folder) as store:
            assert set(store.shapes) == {"c"}
            assert "model-00001-of-00002.safetensors" in store.problems[0]

    def test_index_and_files_disagree(self, folder):
        self.index(folder, {"a": WHOLE["a"], "b": WHOLE["c"], "d": WHOLE["c"]})
        with open_tensors(folder) as store:
            assert set(store.shapes) == {"a", "b", "c"}
            text = " ".join(store.problems)
            assert "missing: 1 tensors of the index, 'd'" in text
            assert "not in the index but in its files, read all the same: 'c'" in text
            assert "in another file than the index says: 'b'" in text

    def test_the_index_decides_between_two_tensors_of_one_name(self, folder):
        write_safetensors(folder / "model-00002-of-00002.safetensors", {"a": np.full(2, 7.0), "c": np.full(2, 2.0)})
        for file, value in ((WHOLE["a"], 0.0), (WHOLE["c"], 7.0)):
            with open_tensors(self.index(folder, {**WHOLE, "a": file})) as store:
                np.testing.assert_array_equal(store.read("a"), value)
                assert "a second tensor of the same name in another file: 'a'" in store.problems[0]

    def test_torch_shards(self, tmp_path):
        write_torch(tmp_path / "pytorch_model-00001-of-00002.bin", {"a": np.zeros(2)})
        write_torch(tmp_path / "pytorch_model-00002-of-00002.bin", {"b": np.ones(2)})
        weight_map = {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
        with open_tensors(tmp_path) as store:
            assert_holds(store, {"a": np.zeros(2), "b": np.ones(2)})

    def test_links_as_in_a_hub_cache(self, folder, tmp_path):
        """snapshots/<commit> holds links to ../../blobs."""
        blobs, snapshot = folder / "blobs", folder / "snapshots" / "0a1b"
        blobs.mkdir()
        snapshot.mkdir(parents=True)
        self.index(snapshot, WHOLE)
        for i, file in enumerate(sorted(set(WHOLE.values()))):
            shutil.move(folder / file, blobs / str(i))
            (snapshot / file).symlink_to(Path("../../blobs") / str(i))
        with open_tensors(folder) as store:
            assert set(store.shapes) == {"a", "b", "c"}
            assert store.problems == ("read from the folder snapshots/0a1b",)
        (blobs / "1").unlink()
        with open_tensors(folder) as store:
            assert "is a link to '../../blobs/1', which does not exist" in store.problems[0]


class TestFolders:
    def write(self, path, value):
        kind = {".safetensors": "safetensors", ".bin": "torch", ".ckpt": "torch", ".msgpack": "flax", ".npz": "npz"}[path.suffix]
        FILES[kind](path, {"w": np.array([value])})

    @pytest.mark.parametrize("first", range(len(ORDER)))
    def test_order(self, tmp_path, first):
        for value, name in enumerate(ORDER[first:], start=first):
            self.write(tmp_path / name, float(value))
        with open_tensors(tmp_path) as store:
            np.testing.assert_array_equal(store.read("w"), [first])
            if first < len(ORDER) - 1:
                assert "of several checkpoints in" in store.problems[0]
                assert repr(ORDER[first + 1]) in store.problems[0]
            else:
                assert store.problems == ()

    def test_what_lies_beside_is_no_checkpoint(self, tmp_path):
        self.write(tmp_path / "model.safetensors", 1.0)
        for name in (
            "optimizer.pt",
            "scheduler.pt",
            "training_args.bin",
            "rng_state_0.pth",
            "README.md",
            ".hidden.pt",
            "trainer_state.json",
        ):
            (tmp_path / name).write_bytes(b"x")
        with open_tensors(str(tmp_path)) as store:
            assert store.problems == ()

    def test_config(self, tmp_path):
        self.write(tmp_path / "model.safetensors", 1.0)
        (tmp_path / "config.json").write_text(
            '{"model_type": "mamba2", "time_step_limit": [0.0, {"__float__": "Infinity"}], "inner": {"low": {"__float__": "-Infinity"}}}'
        )
        for source in (tmp_path, tmp_path / "model.safetensors"):
            with open_tensors(source) as store:
                assert store.config == {"model_type": "mamba2", "time_step_limit": [0.0, math.inf], "inner": {"low": -math.inf}}

    @pytest.mark.parametrize(
        ("text", "problem"),
        [("{", "config.json: is not JSON"), ("[1]", "is not a JSON object but a list"), ('{"__float__": "much"}', "is not JSON")],
    )
    def test_a_broken_config_is_a_problem_not_an_error(self, tmp_path, text, problem):
        self.write(tmp_path / "model.safetensors", 1.0)
        (tmp_path / "config.json").write_text(text)
        with open_tensors(tmp_path) as store:
            assert store.config == {}
            assert problem in store.problems[0]

    def test_one_folder_below(self, tmp_path, rng):
        write_orbax(tmp_path / "1000" / "default", tree_of(rng))
        (tmp_path / "2000.orbax-checkpoint-tmp-1").mkdir()
        with open_tensors(tmp_path) as store:
            assert "params/layers_0/seq/B" in store.shapes
            assert store.problems == (f"read from the folder {Path('1000/default')}",)

    def test_several_steps_below(self, tmp_path):
        for step in (500, 1000):
            (tmp_path / f"checkpoint-{step}").mkdir()
            self.write(tmp_path / f"checkpoint-{step}" / "model.safetensors", float(step))
        with open_tensors(tmp_path) as store:
            np.testing.assert_array_equal(store.read("w"), [1000])
            assert store.problems == ("read from the folder checkpoint-1000, the last of 2; left out: 'checkpoint-500'",)

    @pytest.mark.parametrize("names", [("small", "large"), ("snapshots/0a1b", "snapshots/1a1b"), ("run-1/best", "run-1/last")])
    def test_several_folders_below(self, tmp_path, names):
        for name in names:
            (tmp_path / name).mkdir(parents=True)
            self.write(tmp_path / name / "model.safetensors", 1.0)
        with pytest.raises(CheckpointError, match=f"holds 2 folders with a checkpoint, pass one: .*{max(names)}"):
            open_tensors(tmp_path)

    @pytest.mark.parametrize("source", [".", "ckpt-7", "ckpt-7.index", "ckpt-7.data-00000-of-00001", ".."])
    def test_tensorflow(self, tmp_path, source):
        """By any of the names that its users pass. The last bytes are those of a table of LevelDB."""
        folder = tmp_path / "saved" / "variables"
        folder.mkdir(parents=True)
        (folder / "ckpt-7.index").write_bytes(bytes(40) + bytes.fromhex("57fb808b247547db"))
        (folder / "ckpt-7.data-00000-of-00001").write_bytes(b"<\x00\x80\x3f")
        (folder / "checkpoint").write_text('model_checkpoint_path: "ckpt-7"\n')
        with pytest.raises(CheckpointError, match=r"is a TensorFlow checkpoint, which TensorFlow alone reads; .* np\.savez\("):
            open_tensors(folder / source)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(CheckpointError, match=r"is an empty folder; wanted is a file \.safetensors"):
            open_tensors(tmp_path)
        (tmp_path / "notes.txt").write_text("x")
        with pytest.raises(CheckpointError, match=r"holds no checkpoint, but 'notes\.txt'"):
            open_tensors(tmp_path)
        with pytest.raises(CheckpointError, match="no such file or folder; models of a hub must be downloaded first"):
            open_tensors("state-spaces/mamba-130m")
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(CheckpointError, match="is a configuration and holds no weights; pass the folder"):
            open_tensors(tmp_path / "config.json")

    def test_old_flax_names(self, tmp_path):
        write_flax(tmp_path / "checkpoint_90", {"params": {"w": np.zeros(1)}})
        write_flax(tmp_path / "checkpoint_100", {"params": {"w": np.ones(1)}})
        with open_tensors(tmp_path) as store:
            np.testing.assert_array_equal(store.read("params/w"), [1])
