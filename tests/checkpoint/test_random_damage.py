"""10,000 files damaged at random: a clear error or a part of the tensors, never a crash, code that runs, or memory without a use."""

import contextlib
import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ssm_analysis.checkpoint import CheckpointError, open_tensors
from tests.support.checkpoint_files import FILES, flat, tree_of, write_orbax, write_orbax_aggregated, write_safetensors
from tests.support.checkpoint_pickles import call, dictionary, tensor, text, torch_archive, torch_legacy
from tests.support.memory import forget_peak, needs_books, peak

KINDS = [*FILES, "orbax", "zarr", "aggregated", "shards", "lightning", "pickle in torch", "attack", "attack in old torch"]
MARKER = "marker"
"""The file that the attacks would make."""


def write(kind, folder, rng):
    """A small checkpoint of that kind; what to open."""
    tree = tree_of(rng)
    if kind in FILES:
        return FILES[kind](folder / "weights", flat(tree))
    if kind in ("orbax", "zarr"):
        return write_orbax(folder / "weights", tree, ocdbt=kind == "orbax")
    if kind == "aggregated":
        return write_orbax_aggregated(folder / "weights", tree)
    if kind == "shards":
        return write_shards(folder, flat(tree))
    if kind.startswith("attack"):
        return write_attack(folder / "weights", torch_archive if kind == "attack" else torch_legacy)
    state = {name: torch.from_numpy(np.asarray(x)) for name, x in flat(tree).items()}
    torch.save({"state_dict": state, "hyper_parameters": {"path": Path("a/b"), "rate": np.float64(0.1)}, "epoch": 3}, folder / "weights")
    return folder / "weights"


def write_shards(folder, tensors):
    weight_map = {name: f"model-{i:05}-of-00004.safetensors" for i, name in enumerate(tensors, start=1)}
    for name, file in weight_map.items():
        write_safetensors(folder / file, {name: tensors[name]})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text('{"model_type": "mamba"}')
    return folder


def write_attack(path, build):
    """Calls that Python's unpickler would run, behind the weights."""
    code = text(f"open({str(path.parent / MARKER)!r}, 'w')")
    touch = text(f"touch {path.parent / MARKER}")
    return build(path, dictionary(w=tensor(), x=call("builtins", "eval", code), y=call("posix", "system", touch)))


def mutations(rng, data):
    """Endless damaged versions of some bytes: flipped, cut, repeated, replaced by extremes, left out."""
    while True:
        x = bytearray(data)
        i = int(rng.integers(len(x)))
        match int(rng.integers(6)):
            case 0:
                for j in rng.integers(len(x), size=rng.integers(1, 9)):
                    x[j] = rng.integers(256)
            case 1:
                x[i] ^= 1 << int(rng.integers(8))
            case 2:
                del x[i:]
            case 3:
                x[i:i] = x[i : i + int(rng.integers(64))]
            case 4:
                x[i : i + int(rng.integers(9))] = [b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7][int(rng.integers(3))]
            case _:
                del x[i : i + int(rng.integers(1, 32))]
        yield bytes(x)


def in_archive(path, rng):
    """Valid archives around damaged pickles."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in entries if name.endswith("data.pkl"))
    for damaged in mutations(rng, entries[name]):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for entry, data in entries.items():
                archive.writestr(entry, damaged if entry == name else data)
        yield buffer.getvalue()


def read_all(path):
    """How many tensors could be read; only CheckpointErrors are caught."""
    read = 0
    with open_tensors(path) as store:
        for name, shape in store.shapes.items():
            with contextlib.suppress(CheckpointError):
                x = store.read(name)
                assert isinstance(x, np.ndarray)
                assert x.shape == shape
                read += 1
    return read


def fuzz(kind, rng, count):
    """How many of ``count`` damaged checkpoints opened."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        path = write(kind, Path(name), rng)
        files = sorted(file for file in Path(name).rglob("*") if file.is_file())
        whole = {file: file.read_bytes() for file in files}
        damaged = {file: mutations(rng, data) for file, data in whole.items()}
        if kind in ("pickle in torch", "attack"):
            damaged = {path: in_archive(path, rng)}
        opened = 0
        for _ in range(count):
            file = files[rng.integers(len(files))]
            file.write_bytes(next(damaged[file]))
            with contextlib.suppress(CheckpointError):
                read_all(path)
                opened += 1
            file.write_bytes(whole[file])
        assert not (Path(name) / MARKER).exists()
    return opened


@pytest.mark.usefixtures("unchecked_annotations")
class TestRandomDamage:
    @needs_books
    @pytest.mark.parametrize("kind", KINDS)
    def test_an_error_or_a_part(self, kind, rng):
        fuzz(kind, rng, 1)  # loads the reader
        forget_peak()
        before = peak()
        opened = fuzz(kind, rng, 720)  # 14 kinds, 10,080 files
        # some damage is behind the first check, but for the attacks, which are refused before they are read
        assert 10 < opened < 710 or "attack" in kind
        assert peak() - before < 100

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", KINDS)
    def test_longer(self, kind):
        fuzz(kind, np.random.default_rng(1), 20_000)

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if "attack" not in kind])
    def test_cut_off_anywhere(self, tmp_path, rng, kind):
        path = write(kind, tmp_path, rng)
        for file in [file for file in tmp_path.rglob("*") if file.is_file()]:
            data = file.read_bytes()
            for size in {0, 1, 2, 7, 8, 9, *range(10, len(data), max(1, len(data) // 12)), len(data) - 1} - {len(data)}:
                file.write_bytes(data[: max(size, 0)])
                with contextlib.suppress(CheckpointError):
                    read_all(path)
            file.write_bytes(data)
        assert read_all(path) == 4
