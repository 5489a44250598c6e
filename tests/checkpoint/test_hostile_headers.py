"""Headers, indices and lists that lie: about sizes, names, places and types."""

import json
import os
import struct
import tracemalloc
import zipfile

import msgpack
import numpy as np
import pytest
import tensorstore

from ssm_analysis.checkpoint import CheckpointError, open_tensors
from tests.support.checkpoint_files import (
    tree_of,
    write_flax,
    write_npz,
    write_orbax,
    write_orbax_aggregated,
    write_safetensors,
    write_safetensors_header,
)


class TestSafetensors:
    ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}  # noqa: RUF012

    @pytest.mark.parametrize(
        "header",
        [
            b"",
            b"{",
            b"[]",
            b'{"w": 3}',
            b'{"w": {"dtype": "F32", "shape": [2]}}',
            b'{"w": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}',
            b'{"w": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}',
            b'{"w": {"dtype": "F32", "shape": [1099511627776, 1099511627776], "data_offsets": [0, 8]}}',
            b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 18446744073709551615]}}',
            b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
            b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "v": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
            b'{"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}',
            b"[" * 100_000,
            b'{"w": ' * 10_000,
        ],
    )
    def test_headers(self, tmp_path, header):
        with pytest.raises(CheckpointError, match=r"x\.safetensors: "):
            open_tensors(write_safetensors_header(tmp_path / "x.safetensors", header, size=8))

    @pytest.mark.parametrize("length", [0, 2**20, 2**31, 2**62, 2**64 - 1])
    def test_lengths_of_the_header(self, tmp_path, length):
        (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", length) + b'{"w": {}}')
        with pytest.raises(CheckpointError, match="is not a valid safetensors file, or is cut off: "):
            open_tensors(tmp_path / "x.safetensors")

    def test_a_header_of_more_than_any_model(self, tmp_path):
        header = json.dumps({"w": self.ENTRY}).encode().ljust(2**25 + 1)
        with pytest.raises(CheckpointError, match="has a header of 33554433 bytes; no model needs as many names"):
            open_tensors(write_safetensors_header(tmp_path / "x.safetensors", header, size=8))

    def test_a_name_twice(self, tmp_path):
        """The library takes the last; which one was meant nobody knows."""
        one = json.dumps(self.ENTRY)
        header = f'{{"w": {one}, "w": {one.replace("F32", "I32")}}}'.encode()
        with pytest.raises(CheckpointError, match="tensor 'w': stands in the header twice"):
            open_tensors(write_safetensors_header(tmp_path / "x.safetensors", header, size=8))

    def test_packed_formats_are_left_out(self, tmp_path):
        header = {"w": self.ENTRY, "q": {"dtype": "F4", "shape": [16], "data_offsets": [8, 16]}}
        with open_tensors(write_safetensors_header(tmp_path / "x.safetensors", header, size=16)) as store:
            assert set(store.shapes) == {"w"}
            assert store.problems == ("left out, stored in a format of packed bits that cannot be read without its scales: 'q'",)

    def test_shrinking_after_it_was_opened(self, tmp_path):
        """A mapped file would kill the process here."""
        path = write_safetensors(tmp_path / "x.safetensors", {"w": np.zeros(10_000)})
        with open_tensors(path) as store:
            os.truncate(path, 200)
            with pytest.raises(CheckpointError, match="became shorter while it was read"):
                store.read("w")


class TestNpz:
    def test_objects_are_never_unpickled(self, tmp_path):
        marker = tmp_path / "marker"

        class Attack:
            def __reduce__(self):
                return (eval, (f"open({str(marker)!r}, 'w')",))

        np.savez(tmp_path / "x.npz", bad=np.array([Attack()], dtype=object), good=np.ones(2))
        with open_tensors(tmp_path / "x.npz") as store:
            assert set(store.shapes) == {"good"}
            assert "tensor 'bad': holds pickled Python objects, which could run code; left out" in store.problems[0]
        assert not marker.exists()

    @pytest.mark.parametrize(
        ("array", "problem"),
        [
            (np.zeros(2, np.longdouble), "which 64 bits do not hold exactly"),
            (np.array(["x"]), "holds <U1, which 64 bits do not hold exactly"),
            (np.zeros(2, [("a", "f4")]), "which 64 bits do not hold exactly"),
            (np.zeros(2, "V2"), "bfloat16 perhaps, whose name npz loses; save it as float32"),
            (np.zeros(2, "M8[s]"), "which 64 bits do not hold exactly"),
        ],
    )
    def test_no_numbers(self, tmp_path, array, problem):
        np.savez(tmp_path / "x.npz", bad=array, good=np.ones(2))
        with open_tensors(tmp_path / "x.npz") as store:
            assert set(store.shapes) == {"good"}
            assert problem in store.problems[0]

    @pytest.mark.parametrize(
        "header",
        [
            "{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776, 1099511627776)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}",
            "{'descr': '(1000000,)f8', 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
            "{'descr': '<f8'}",
            "__import__('os').system('false')",
            "(" * 5000,
        ],
    )
    def test_headers(self, tmp_path, header):
        header = header.encode() + b"\n"
        array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(16)
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("bad.npy", array)
        with pytest.raises(CheckpointError, match=r"holds no tensors that could be read; .*tensor 'bad': .*; left out"):
            open_tensors(tmp_path / "x.npz")

    def test_bombs(self, tmp_path):
        """200 MB of zeros in 200 kB; numpy's own zeros of moderate size stay readable."""
        np.savez_compressed(tmp_path / "x.npz", bomb=np.zeros(25_000_000), zeros=np.zeros(1_000_000))
        with open_tensors(tmp_path / "x.npz") as store:
            assert set(store.shapes) == {"zeros"}
            assert "tensor 'bomb': claims 191 MiB of which 0.1" in store.problems[0]
            assert "MiB are stored; no trained weights compress like that" in store.problems[0]

    def test_foreign_entries(self, tmp_path):
        np.savez(tmp_path / "x.npz", good=np.ones(2))
        array = (tmp_path / "one.npy").open("wb+")
        with array:
            np.save(array, np.ones(2))
        with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
            archive.writestr("notes.txt", "x")
            archive.writestr("packed.npy", (tmp_path / "one.npy").read_bytes(), compress_type=zipfile.ZIP_LZMA)
        with open_tensors(tmp_path / "x.npz") as store:
            assert set(store.shapes) == {"good"}
            assert "tensor 'notes.txt': is not an .npy file; left out" in store.problems[0]
            assert "tensor 'packed': is compressed in a way numpy does not write; left out" in store.problems[1]

    def test_a_name_twice(self, tmp_path):
        write_npz(tmp_path / "x", {"w": np.ones(2)})
        with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("w.npy", archive.read("w.npy"))
        with pytest.raises(CheckpointError, match=r"x\.npz: tensor 'w': stands in the archive twice"):
            open_tensors(tmp_path / "x.npz")

    def test_other_archives(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.writestr("notes.txt", "x")
        with pytest.raises(CheckpointError, match="is a zip archive but neither a torch file nor npz; unpack it"):
            open_tensors(tmp_path / "x.zip")


class TestMsgpack:
    @pytest.mark.usefixtures("unchecked_annotations")
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"\x81\xa1a" * 5000 + b"\xc0", "is nested more than 100 levels deep"),
            (b"\x81\xa1a" + b"\x91" * 5000 + b"\xc0", "is nested more than 100 levels deep"),
            (b"\x81\xa1a\xdd\xff\xff\xff\xff", "claims 4294967295 entries in 0 bytes"),
            (b"\xdf\xff\xff\xff\xff", "claims 4294967295 entries in 0 bytes"),
            (b"\x81\xa1a\xdb\xff\xff\xff\xff", "claims a name of 4294967295 bytes"),
            (b"\x81\xa1a\xc6\xff\xff\xff\xff", "claims a value of 4294967295 bytes where 0 are left"),
            (b"\x81\xa1a\xc9\xff\xff\xff\xff\x01", "claims a value of 4294967295 bytes where 0 are left"),
            (b"\x81\xa1a\xc1", "has the byte 0xc1 where a value should begin"),
            (b"\x82\xa1a\xc0\xa1a\xc0", "has the key twice: 'a'"),
            (b"\x81\x90\xc0", "has a key that is no name: "),
            (b"\x81\xa1a", "claims 1 entries in 2 bytes|ends in the middle of a value"),
            (b"\x81\xa1a" + b"\xdd\x00\x1e\x84\x80" + b"\xc0" * 2_000_000, "has more than 1,000,000 entries"),
        ],
    )
    def test_structures(self, tmp_path, data, message):
        (tmp_path / "x.msgpack").write_bytes(data)
        with pytest.raises(CheckpointError, match=message):
            open_tensors(tmp_path / "x.msgpack")

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (((2,), "object", bytes(16)), "has dtype 'object', which is not a number"),
            (((1,), "(1000000000,)f8", bytes(8)), "which is not a number that 64 bits hold exactly"),
            (((3,), "float64", bytes(16)), r"has shape \(3,\) and dtype float64, which do not fit its 16 bytes"),
            (((2**62, 2**62), "float64", bytes(16)), "which do not fit its 16 bytes"),
            (((-2, -1), "float64", bytes(16)), "is no array of flax"),
            (((2.0,), "float64", bytes(16)), "is no array of flax"),
            ("no array", "is no array of flax"),
        ],
    )
    def test_arrays(self, tmp_path, array, message):
        (tmp_path / "x").write_bytes(msgpack.packb({"bad": msgpack.ExtType(1, msgpack.packb(array))}))
        with pytest.raises(CheckpointError, match=rf"holds no tensors that could be read; tensor 'bad' left out: .*{message}"):
            open_tensors(tmp_path / "x")

    @pytest.mark.parametrize(
        "bad",
        [
            {"__msgpack_chunked_array__": True},
            {"__msgpack_chunked_array__": True, "shape": {"0": 3}, "chunks": {"0": np.zeros(2)}},
            {"__msgpack_chunked_array__": True, "shape": {"0": 2}, "chunks": {"0": 3}},
            {"__msgpack_chunked_array__": True, "shape": {"0": 4}, "chunks": {"0": np.zeros(2), "1": np.zeros(2, np.float32)}},
            msgpack.ExtType(2, msgpack.packb((1, 2))),
        ],
    )
    def test_chunks_and_complex_numbers(self, tmp_path, bad):
        with open_tensors(write_flax(tmp_path / "x", {"bad": bad, "good": np.ones(1)})) as store:
            assert set(store.shapes) == {"good"}
            assert "tensor 'bad' left out: " in store.problems[0]

    def test_trailing_bytes(self, tmp_path):
        path = write_flax(tmp_path / "x", {"w": np.ones(1)})
        path.write_bytes(path.read_bytes() + b"\xc0" * 7)
        with open_tensors(path) as store:
            assert store.problems == ("7 bytes follow the tree; the file is damaged or holds more than one",)

    @pytest.mark.usefixtures("unchecked_annotations")
    def test_long_names_repeated(self, tmp_path):
        """64 kB of a name before each of 3,000 leaves would make 200 MB of names of a file of 100 kB."""
        path = tmp_path / "x"
        path.write_bytes(msgpack.packb({"a" * 60_000: {str(i): 0 for i in range(3000)}}))
        tracemalloc.start()
        with pytest.raises(CheckpointError, match="names of absurd length"):
            open_tensors(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
        tracemalloc.stop()


class TestIndices:
    @pytest.mark.parametrize(
        "file", ["../secret.safetensors", "/etc/passwd", "a/../../x", "C:\\x", "\\\\host\\x", "..\\x", "a\0b", "", "/"]
    )
    def test_names_outside_the_folder(self, tmp_path, file):
        write_safetensors(tmp_path / "secret.safetensors", {"w": np.ones(1)})
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": file}}))
        with pytest.raises(CheckpointError, match=r"names the file .*, which is outside its folder; refused"):
            open_tensors(folder)

    @pytest.mark.parametrize(
        "index", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"w": 3}}', "{", "[" * 100_000, '{"weight_map": {"w": null}}']
    )
    def test_no_index(self, tmp_path, index):
        (tmp_path / "model.safetensors.index.json").write_text(index)
        with pytest.raises(CheckpointError, match=r"is no index of files|is not JSON"):
            open_tensors(tmp_path)

    def test_no_file_is_there(self, tmp_path):
        weight_map = {f"w{i}": f"model-{i:05}.safetensors" for i in range(200)}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(CheckpointError, match=r"holds no tensors that could be read; missing or unreadable: .*and 181 problems more"):
            open_tensors(tmp_path)
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {f"w{i}": f"{i}" for i in range(20_000)}}))
        with pytest.raises(CheckpointError, match="names 20000 files; at most 10,000 are read"):
            open_tensors(tmp_path)

    def test_an_index_that_names_itself(self, tmp_path):
        name = "model.safetensors.index.json"
        (tmp_path / name).write_text(json.dumps({"weight_map": {"w": name}}))
        with pytest.raises(CheckpointError, match="holds no tensors that could be read; missing or unreadable"):
            open_tensors(tmp_path)


class TestOrbax:
    def entry(self, *keys, kind="jax.Array"):
        return {
            "key_metadata": [{"key": key, "key_type": 2} for key in keys],
            "value_metadata": {"value_type": kind, "skip_deserialize": False},
        }

    @pytest.mark.parametrize("ocdbt", [True, False])
    @pytest.mark.parametrize("keys", [("../../x",), ("a", "/../../x"), ("/etc",), ("a\0b",), ("..\\x",), ("",)])
    def test_paths_outside_the_folder(self, tmp_path, rng, ocdbt, keys):
        folder = write_orbax(tmp_path / "o", tree_of(rng), ocdbt=ocdbt)
        (folder / "_METADATA").write_text(json.dumps({"tree_metadata": {"x": self.entry(*keys)}}))
        with pytest.raises(CheckpointError, match=r"_METADATA: names .*, which may lie outside the checkpoint; refused"):
            open_tensors(folder)

    @pytest.mark.parametrize("place", ["../../x", "/etc", "a/../../b", ""])
    def test_an_old_file_that_names_paths_outside_the_folder(self, tmp_path, place):
        write_orbax_aggregated(tmp_path / "o", {"good": np.ones(1), "bad": f"PLACEHOLDER://{place}"})
        with pytest.raises(CheckpointError, match=r"checkpoint: names .*, which may lie outside the checkpoint; refused"):
            open_tensors(tmp_path / "o")

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ([], "lists no tree of tensors"),
            ({"x": 3}, "has an entry that is none of orbax: 3"),
            ({"x": {"key_metadata": [], "value_metadata": {"value_type": "jax.Array"}}}, "has an entry that is none of orbax"),
            ({"x": {"key_metadata": [{"key": {}}], "value_metadata": {"value_type": "jax.Array"}}}, "has an entry that is none of orbax"),
        ],
    )
    def test_lists(self, tmp_path, rng, entries, message):
        folder = write_orbax(tmp_path / "o", tree_of(rng))
        (folder / "_METADATA").write_text(json.dumps({"tree_metadata": entries}))
        with pytest.raises(CheckpointError, match=message):
            open_tensors(folder)

    def test_collisions(self, tmp_path, rng):
        folder = write_orbax(tmp_path / "o", tree_of(rng))
        for entries, message in [
            ([self.entry("a"), self.entry("a")], "tensor 'a': is listed twice"),
            ([self.entry("a"), self.entry("a", "b")], "tensor 'a/b': is the name of a tensor and of a part of the tree"),
        ]:
            (folder / "_METADATA").write_text(json.dumps({"tree_metadata": dict(enumerate(entries))}))
            with pytest.raises(CheckpointError, match=message):
                open_tensors(folder)

    def test_nothing_stored_of_a_huge_array(self, tmp_path, rng):
        """Missing chunks of zarr are zeros, of any shape."""
        folder = write_orbax(tmp_path / "o", {"w": np.ones(2)}, ocdbt=False)
        metadata = json.loads((folder / "w" / ".zarray").read_text())
        (folder / "w" / ".zarray").write_text(json.dumps({**metadata, "shape": [10**6, 10**6], "chunks": [1, 10**6], "fill_value": 0}))
        with (
            open_tensors(folder) as store,
            pytest.raises(CheckpointError, match=r"tensor 'w': claims 7,629,395 MiB of which 0.00. MiB are stored"),
        ):
            store.read("w")
        (folder / "w" / ".zarray").write_text(json.dumps({**metadata, "chunks": [10**12]}))
        with open_tensors(folder) as store, pytest.raises(CheckpointError, match="tensor 'w': claims"):
            store.read("w")

    def test_damaged_data(self, tmp_path):
        folder = write_orbax(tmp_path / "o", {"w": np.ones(1000), "v": np.ones(2)}, ocdbt=False)
        (folder / "w" / "0").write_bytes(b"x")
        with open_tensors(folder) as store:
            np.testing.assert_array_equal(store.read("v"), [1, 1])
            with pytest.raises(CheckpointError, match="tensor 'w': cannot be read: "):
                store.read("w")

    def test_no_numbers(self, tmp_path):
        folder = write_orbax(tmp_path / "o", {"w": np.ones(2)}, ocdbt=False)
        spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{folder}/w/"}, "metadata": {"dtype": "|S4"}}
        tensorstore.open(spec, create=True, delete_existing=True, shape=[2, 4], dtype=tensorstore.char).result()
        with pytest.raises(CheckpointError, match="no numbers that 64 bits hold exactly: 'w'"):
            open_tensors(folder)
