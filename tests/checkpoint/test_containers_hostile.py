"""Files that are none, links, devices, trees without end, absurd sizes: a clear error, never more memory than the file warrants."""

import json
import lzma
import struct
from pathlib import Path

import numpy as np
import pytest

from ssm_analysis.checkpoint import CheckpointError, open_tensors
from ssm_analysis.checkpoint.containers import trees
from tests.support.checkpoint_files import (
    FILES,
    flat,
    fresh,
    tree_of,
    write_npz,
    write_orbax,
)
from tests.support.checkpoint_pickles import call, dictionary, integer, tensor, torch_archive, torch_legacy
from tests.support.memory import needs_books


class TestFiles:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "is empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "is a pointer that Git LFS left .*: run git lfs pull"),
            (b"GGUF\x03\0\0\0", "is a GGUF file"),
            (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
            (b"\x93NUMPY\x01\0", "is a single array without a name"),
            (b"\x1f\x8b\x08", "is compressed with gzip"),
            (b"<!DOCTYPE html>", "is a web page or XML"),
            (b"PK\x03\x04", "is a zip archive that is damaged or cut off"),
            (b"hello world", r"begins with b'hello wo', which is none of safetensors, torch, flax msgpack, npz or orbax"),
            (lzma.compress(b"x"), "begins with"),
        ],
    )
    @pytest.mark.parametrize("suffix", [".pt", ".bin", ".msgpack", ".npz"])
    def test_other_files(self, tmp_path, data, message, suffix):
        (tmp_path / f"x{suffix}").write_bytes(data)
        with pytest.raises(CheckpointError, match=rf"x\{suffix}: {message}"):
            open_tensors(tmp_path / f"x{suffix}")

    @pytest.mark.parametrize("kind", FILES)
    def test_names_of_files_tell_nothing(self, tmp_path, rng, kind):
        tensors = {"w": rng.standard_normal(3)}
        path = FILES[kind](tmp_path / "x", tensors)
        with open_tensors(path.rename(tmp_path / "checkpoint.weights")) as store:
            np.testing.assert_array_equal(store.read("w"), tensors["w"])

    def test_links(self, tmp_path):
        (tmp_path / "a.pt").symlink_to("b.pt")
        (tmp_path / "b.pt").symlink_to("a.pt")
        with pytest.raises(CheckpointError, match=r"cannot be opened|link"):
            open_tensors(tmp_path / "a.pt")
        (tmp_path / "c.pt").symlink_to("nowhere.pt")
        with pytest.raises(CheckpointError, match=r"c\.pt: is a link to 'nowhere\.pt', which does not exist"):
            open_tensors(tmp_path / "c.pt")
        (tmp_path / "below").mkdir()
        (tmp_path / "below" / "up").symlink_to(tmp_path / "below")
        with pytest.raises(CheckpointError, match="holds no checkpoint, but 'up'"):
            open_tensors(tmp_path / "below")

    @pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices here")
    def test_devices(self, tmp_path):
        (tmp_path / "x.pt").symlink_to("/dev/zero")
        with pytest.raises(CheckpointError, match=r"x\.pt: is not a regular file"):
            open_tensors(tmp_path / "x.pt")

    def test_strange_names(self, tmp_path):
        for name in ("x" * 5000, "a\0b", "https://somewhere/x.pt"):
            with pytest.raises(CheckpointError, match=r"cannot be opened|no such file or folder"):
                open_tensors(name)

    def test_unreadable(self, tmp_path, monkeypatch):
        path = write_npz(tmp_path / "x", {"w": np.ones(1)})

        def refuse(self, *arguments, **options):
            raise PermissionError(13, "Permission denied")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", refuse)
            with pytest.raises(CheckpointError, match=r"x\.npz: cannot be opened: Permission denied"):
                open_tensors(path)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "iterdir", refuse)
            with pytest.raises(CheckpointError, match="cannot be listed: Permission denied"):
                open_tensors(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "is_dir", refuse)
            with pytest.raises(CheckpointError, match="cannot be opened: Permission denied"):
                open_tensors(tmp_path)

    def test_a_huge_config(self, tmp_path):
        write_npz(tmp_path / "x", {"w": np.ones(1)})
        with (tmp_path / "config.json").open("wb") as file:
            file.truncate(2**30)
        with open_tensors(tmp_path) as store:
            assert "config.json: has 1073741824 bytes; no configuration or index is as large" in store.problems[0]


class TestTrees:
    @pytest.mark.usefixtures("unchecked_annotations")
    def test_trees_that_are_none(self, monkeypatch):
        monkeypatch.setattr(trees, "MOST_NAMES", 50_000)  # the tests' patience
        itself: dict = {}
        itself["a"] = itself
        deep: dict = {"w": np.ones(1)}
        for _ in range(200):
            deep = {"a": deep}
        doubling: list = [np.ones(1)]
        for _ in range(40):
            doubling = [doubling, doubling]
        for tree in (itself, deep, {"x": doubling}, {"x": [0] * 2_000_000}):
            with pytest.raises(CheckpointError, match="not a tree of weights"):
                open_tensors(tree)


@needs_books
def test_memory_stays_small(tmp_path, rng):
    """All the claims of absurd sizes in one process, which may grow by 60 MB over one that has read harmless files."""
    harmless = [FILES[kind](tmp_path / f"ok {kind}", flat(tree_of(rng))) for kind in FILES] + [write_orbax(tmp_path / "ok", tree_of(rng))]
    folder = write_orbax(tmp_path / "zarr", {"w": np.ones(2)}, ocdbt=False)
    metadata = json.loads((folder / "w" / ".zarray").read_text())
    (folder / "w" / ".zarray").write_text(json.dumps({**metadata, "shape": [10**9], "chunks": [10**9], "fill_value": 0}))
    np.savez_compressed(tmp_path / "bomb.npz", w=np.zeros(50_000_000))
    values = [
        call("__builtin__", "bytearray", integer(10**10)),
        call("torch", "FloatTensor", integer(10**9)),
        tensor(shape=(10**5, 10**5), stride=(0, 0)),
        tensor(shape=(10**9,)),
        tensor(numel=10**12),
    ]
    hostile = [str(torch_archive(tmp_path / f"{i}.pt", dictionary(w=value))) for i, value in enumerate(values)]
    hostile += [str(torch_legacy(tmp_path / f"old {i}.pt", dictionary(w=value))) for i, value in enumerate(values)]
    hostile += [str(torch_archive(tmp_path / "memo.pt", b"\x80\x02}r\xff\xff\xff\xff.")), str(tmp_path / "bomb.npz"), str(folder)]
    for i, data in enumerate([b"\xdf\xff\xff\xff\xff", b"\x81\xa1a\xdd\xff\xff\xff\xff", b"\x81\xa1a\xc6\xff\xff\xff\xff"]):
        (tmp_path / f"{i}.msgpack").write_bytes(data + b"\xc0" * 100)
        hostile.append(str(tmp_path / f"{i}.msgpack"))
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", 2**40) + b"{" * 1000)
    hostile.append(str(tmp_path / "x.safetensors"))
    code = f"""
import json
from tests.support.memory import peak
from ssm_analysis.checkpoint import CheckpointError, open_tensors
from ssm_analysis.checkpoint.containers import trees
def read(path):
    try:
        with open_tensors(path) as store:
            for name in store.shapes:
                store.read(name)
        return True
    except CheckpointError:
        return False
fine = [read(path) for path in {[str(path) for path in harmless]!r}]
before = peak()
read_all = [path for path in {hostile!r} if read(path)]
print(json.dumps([all(fine), read_all, peak() - before]))
"""
    fine, read, megabytes = fresh(code)
    assert fine
    assert [Path(path).name for path in read] == ["4.pt"]  # the tensor itself lies inside the data
    assert megabytes < 60
