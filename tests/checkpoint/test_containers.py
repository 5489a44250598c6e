"""Every container gives the same numbers: what was stored, lifted exactly; only what is asked for is read."""

import argparse
import json
import math
import os
import shutil
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import msgpack
import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssm_analysis.checkpoint import CheckpointError, TensorStore, open_tensors
from ssm_analysis.checkpoint.containers.binary_file import BinaryFile
from ssm_analysis.checkpoint.containers.msgpack_scan import Bytes, scan
from tests.support.checkpoint_files import (
    FILES,
    assert_holds,
    flat,
    flax_default,
    fresh,
    tree_of,
    write_flax,
    write_npz,
    write_orbax,
    write_safetensors,
    write_torch,
)
from tests.support.memory import needs_books

DTYPES = ["float16", "bfloat16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool", "complex64", "complex128"]
SMALL = ["float8_e4m3fn", "float8_e5m2"]
UNSTORABLE = {
    "npz": {"bfloat16", *SMALL},
    "npz compressed": {"bfloat16", *SMALL},
    "safetensors": {"complex128"},
    "torch before 1.6": set(SMALL),
}
"""What a format has no name for, or its own library does not write."""
STORABLE = [(kind, dtype) for kind in FILES for dtype in DTYPES + SMALL if dtype not in UNSTORABLE.get(kind, ())]


class TestNumbers:
    @pytest.mark.parametrize(("kind", "dtype"), STORABLE)
    def test_every_container_gives_what_was_stored(self, tmp_path, rng, kind, dtype):
        tensors = {
            "a/b.c": (rng.standard_normal((3, 5)) * 4).astype(dtype),
            "one": np.array(1.5).astype(dtype),
            "empty": np.zeros((0, 2), dtype),
        }
        with open_tensors(FILES[kind](tmp_path / "weights", tensors)) as store:
            assert_holds(store, tensors)
            assert store.problems == ()

    @pytest.mark.parametrize("dtype", [*DTYPES, "int4", "float8_e4m3fn"])
    @pytest.mark.parametrize(("ocdbt", "zarr3"), [(True, False), (False, False), (True, True)])
    def test_orbax_gives_what_was_stored(self, tmp_path, rng, dtype, ocdbt, zarr3):
        tree = {"params": {"layers_0": {"a.b": (rng.standard_normal((3, 5)) * 2).astype(dtype)}, "one": np.array(1).astype(dtype)}}
        with open_tensors(write_orbax(tmp_path / "step", tree, ocdbt=ocdbt, zarr3=zarr3)) as store:
            assert_holds(store, flat(tree))

    def test_bfloat16_is_the_upper_half_of_float32(self, tmp_path):
        bits = np.arange(2**16, dtype=np.uint16)
        path = write_safetensors(tmp_path / "x.safetensors", {"w": bits.view(ml_dtypes.bfloat16)})
        expected = [struct.unpack("<f", struct.pack("<I", int(b) << 16))[0] for b in bits]
        np.testing.assert_array_equal(open_once(path, "w"), expected)

    def test_float16_is_what_the_struct_module_says(self, tmp_path):
        data = np.arange(2**16, dtype="<u2").tobytes()
        path = write_torch(tmp_path / "x.pt", {"w": np.frombuffer(data, np.float16)})
        np.testing.assert_array_equal(open_once(path, "w"), struct.unpack(f"<{2**16}e", data))

    @pytest.mark.parametrize(
        ("code", "mantissa", "bias", "largest"), [("F8_E4M3", 3, 7, 448.0), ("F8_E5M2", 2, 15, 57344.0)], ids=["e4m3", "e5m2"]
    )
    def test_eight_bit_floats_by_their_definition(self, tmp_path, code, mantissa, bias, largest):
        header = json.dumps({"w": {"dtype": code, "shape": [128], "data_offsets": [0, 128]}}).encode()
        path = tmp_path / "x.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(range(128)))
        got = open_once(path, "w")
        exponent, fraction = np.arange(128) >> mantissa, np.arange(128) % 2**mantissa / 2**mantissa
        expected = np.where(exponent == 0, fraction * 2.0 ** (1 - bias), (1 + fraction) * 2.0 ** (exponent - bias))
        finite = np.isfinite(got)
        np.testing.assert_array_equal(got[finite], expected[finite])
        assert got[finite].max() == largest

    def test_big_endian_and_fortran_order(self, tmp_path, rng):
        x = rng.standard_normal((3, 4))
        np.savez(tmp_path / "x.npz", big=x.astype(">f4"), columns=np.asfortranarray(x), whole=np.arange(3, dtype=">i8"))
        with open_tensors(tmp_path / "x.npz") as store:
            np.testing.assert_array_equal(store.read("big"), x.astype(np.float32))
            np.testing.assert_array_equal(store.read("columns"), x)
            assert store.read("whole").dtype == np.int64
            np.testing.assert_array_equal(store.read("whole"), [0, 1, 2])

    @pytest.mark.parametrize("kind", FILES)
    def test_infinite_numbers_and_nans_are_numbers(self, tmp_path, kind):
        x = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324])
        got = open_once(FILES[kind](tmp_path / "x", {"w": x}), "w")
        np.testing.assert_array_equal(got, x)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(x))

    def test_signaling_nans_become_quiet_without_a_warning(self, tmp_path):
        path = write_safetensors(tmp_path / "x.safetensors", {"w": np.array([0x7FA00000], np.uint32).view(np.float32)})
        assert math.isnan(open_once(path, "w")[0])


def open_once(path, name):
    with open_tensors(path) as store:
        return store.read(name)


class TestStore:
    @pytest.mark.parametrize("kind", FILES)
    def test_arrays_belong_to_the_caller(self, tmp_path, kind):
        """Also where nothing had to be lifted."""
        with open_tensors(FILES[kind](tmp_path / "x", {"w": np.zeros(2), "i": np.zeros(2, np.int64)})) as store:
            for name in ("w", "i"):
                x = store.read(name)
                x += 1
                np.testing.assert_array_equal(store.read(name), [0, 0])

    def test_knows_without_reading(self, tmp_path):
        path = write_safetensors(tmp_path / "x.safetensors", {"w": np.zeros((2, 3), np.float32)})
        with open_tensors(path) as store:
            assert isinstance(store, TensorStore)
            assert dict(store.shapes) == {"w": (2, 3)}
            assert dict(store.dtypes) == {"w": "float32"}
            assert store.description == "safetensors file, 1 tensors"
            assert repr(store) == "TensorStore(safetensors file, 1 tensors)"
            with pytest.raises(TypeError):
                store.shapes["v"] = (1,)

    def test_names_a_tensor_that_is_not_there(self, tmp_path):
        with open_tensors(write_npz(tmp_path / "x", {"layers.0.A_log": np.zeros(2)})) as store:
            with pytest.raises(CheckpointError, match=r"x\.npz: tensor 'layers\.0\.A_lgo': no such tensor; near it: 'layers\.0\.A_log'"):
                store.read("layers.0.A_lgo")
            with pytest.raises(CheckpointError, match=r"no such tensor; it has 'layers\.0\.A_log'"):
                store.read("zzz")

    @pytest.mark.parametrize("kind", FILES)
    def test_closed_is_closed(self, tmp_path, kind):
        with open_tensors(FILES[kind](tmp_path / "x", {"w": np.zeros(2, np.float32)})) as store:
            store.read("w")
        store.close()
        with pytest.raises(CheckpointError, match="tensor 'w': the checkpoint is closed; read inside the with block"):
            store.read("w")

    def test_says_what_it_takes(self):
        with pytest.raises(TypeError, match=r"source must be a path, a mapping of names to arrays or a torch\.nn\.Module, got int"):
            open_tensors(3)

    def test_errors_are_value_errors(self):
        assert issubclass(CheckpointError, ValueError)

    def test_several_threads_read_at_once(self, tmp_path, rng):
        tensors = {f"w{i}": rng.standard_normal(1000) for i in range(20)}
        for kind in ("safetensors", "flax", "npz compressed", "torch"):
            with open_tensors(FILES[kind](tmp_path / kind, tensors)) as store, ThreadPoolExecutor(8) as pool:
                for name, x in zip(list(tensors) * 10, pool.map(store.read, list(tensors) * 10), strict=True):
                    np.testing.assert_array_equal(x, tensors[name])


class TestLazily:
    @needs_books
    def test_torch_files_are_mapped(self, tmp_path):
        torch.save({"big": torch.zeros(2**25), "small": torch.ones(3)}, tmp_path / "x.pt")
        code = f"""
import json, torch
from ssm_analysis.checkpoint import open_tensors
from tests.support.memory import peak
open_tensors({{"w": torch.ones(1)}}).read("w")
before = peak()
with open_tensors({str(tmp_path / "x.pt")!r}) as store:
    print(json.dumps([store.shapes["big"], store.read("small").tolist(), peak() - before]))
"""
        shape, small, megabytes = fresh(code)
        assert shape == [2**25]
        assert small == [1, 1, 1]
        assert megabytes < 40  # the file has 128

    @pytest.mark.parametrize("kind", ["flax", "npz"])
    def test_other_files_are_read_in_parts(self, tmp_path, kind):
        path = FILES[kind](tmp_path / "x", {"big": np.zeros(2**23), "small": np.ones(3)})
        open_once(path, "small")  # loads the reader
        tracemalloc.start()
        np.testing.assert_array_equal(open_once(path, "small"), [1, 1, 1])
        megabytes = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        assert megabytes < 5  # the file has 64

    def test_import_loads_no_reader(self):
        code = "import json, sys, ssm_analysis.checkpoint; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
        assert not {"torch", "safetensors", "ml_dtypes", "msgpack", "tensorstore"} & set(fresh(code))


class TestTrees:
    def test_names_keep_their_dots(self, tmp_path, rng):
        tree = tree_of(rng)
        names = {"params/layers_0/seq/B", "params/layers_0/seq/D", "params/a.b/scale", "params/step_size"}
        for source in (write_flax(tmp_path / "x", tree), write_orbax(tmp_path / "o", tree), tree):
            with open_tensors(source) as store:
                assert set(store.shapes) == names

    def test_lists_count(self, tmp_path):
        tree = {"params": [np.zeros(1), {"w": np.ones(2)}]}
        for source in (write_flax(tmp_path / "x", tree), tree):
            with open_tensors(source) as store:
                assert set(store.shapes) == {"params/0", "params/1/w"}

    def test_states_of_an_optimizer_are_left_out(self, tmp_path, rng):
        """Adam's moments have the names of the weights."""
        tree = {"model": {**tree_of(rng), "opt_state": {"0": {"mu": tree_of(rng)}}, "step": np.array(3)}}
        for source in (write_flax(tmp_path / "x", tree), write_orbax(tmp_path / "o", tree), tree):
            with open_tensors(source) as store:
                assert {name.split("/")[1] for name in store.shapes} == {"params", "step"}
                assert store.problems == ("left out, states of an optimizer: 'model/opt_state'",)

    def test_flax_extras(self, tmp_path):
        """A numpy scalar, a Python complex number, and an array in chunks, as flax.serialization packs them."""
        whole = np.arange(10.0).reshape(2, 5)
        chunks = {str(i): whole.reshape(-1)[4 * i : 4 * i + 4] for i in range(3)}
        chunked = {"__msgpack_chunked_array__": True, "shape": {"0": 2, "1": 5}, "chunks": chunks}
        path = write_flax(tmp_path / "x", {"scalar": np.float32(2.5), "z": 3 - 4j, "big": chunked, "step": 7, "name": "x", "none": None})
        with open_tensors(path) as store:
            assert store.shapes == {"scalar": (), "z": (), "big": (2, 5)}
            assert store.dtypes == {"scalar": "float32", "z": "complex128", "big": "float64"}
            assert store.read("scalar") == 2.5
            assert store.read("z") == 3 - 4j
            np.testing.assert_array_equal(store.read("big"), whole)
            assert store.problems == ("left out, not tensors: 'step', 'name'",)

    def test_orbax_without_its_list(self, tmp_path, rng):
        folder = write_orbax(tmp_path / "o", tree_of(rng))
        (folder / "_METADATA").unlink()
        with open_tensors(folder) as store:
            assert set(store.shapes) == {"params.layers_0.seq.B", "params.layers_0.seq.D", "params.a.b.scale", "params.step_size"}

    def test_orbax_with_an_array_missing(self, tmp_path, rng):
        folder = write_orbax(tmp_path / "o", tree_of(rng), ocdbt=False)
        shutil.rmtree(folder / "params.a.b.scale")
        with open_tensors(folder) as store:
            assert "params/a.b/scale" not in store.shapes
            assert "tensor 'params/a.b/scale' left out: NOT_FOUND" in store.problems[0]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=40),
        lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=20),
        max_leaves=40,
    )
)
def test_msgpack_structure_as_the_library_reads_it(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("msgpack") / "x"
    path.write_bytes(msgpack.packb(value))
    with BinaryFile(path) as file:
        assert scan(file) == (value, path.stat().st_size)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 8, 15, 16, 17, 255, 256, 65535, 65536])
def test_msgpack_long_values_are_only_located(tmp_path, size):
    for value, code in ((bytes(size), None), (msgpack.ExtType(5, bytes(size)), 5)):
        path = tmp_path / f"{code}"
        path.write_bytes(msgpack.packb([value, 1]))
        with BinaryFile(path) as file:
            (place, one), end = scan(file)
            assert place == Bytes(offset=path.stat().st_size - 1 - size, size=size, code=code)
            assert (one, end) == (1, path.stat().st_size)


class TestInMemory:
    def test_later_changes_do_not_reach_what_was_read(self):
        for source in ({"w": np.zeros(2)}, {"w": torch.zeros(2, dtype=torch.float64)}, {"w": torch.zeros(2, dtype=torch.int64)}):
            with open_tensors(source) as store:
                x = store.read("w")
                source["w"] += 1
                np.testing.assert_array_equal(x, [0, 0])

    def test_mixtures(self):
        source = {"a": torch.ones(2, requires_grad=True), "b": np.ones(2, np.float16), "c": np.array(["x"]), "d": np.array([None]), "e": 3}
        with open_tensors(source) as store:
            assert dict(store.dtypes) == {"a": "float32", "b": "float16"}
            assert store.problems == ("left out, not tensors: 'e'", "left out, no numbers that 64 bits hold exactly: 'c', 'd'")

    def test_lightning_in_memory(self):
        with open_tensors({"state_dict": {"w": torch.ones(1)}, "hyper_parameters": argparse.Namespace(lr=0.1)}) as store:
            assert set(store.shapes) == {"w"}
            assert store.hyper_parameters == {"lr": 0.1}

    def test_long_doubles_are_not_rounded(self):
        if np.finfo(np.longdouble).nmant == 52:
            pytest.skip("long double is double here")
        with pytest.raises(CheckpointError, match="no numbers that 64 bits hold exactly: 'w'"):
            open_tensors({"w": np.zeros(2, np.longdouble)})

    def test_nothing(self):
        with pytest.raises(CheckpointError, match="holds no tensors that could be read"):
            open_tensors({})

    def test_two_tensors_of_one_name(self):
        with pytest.raises(CheckpointError, match="tensor 'a/b': is the name of two different tensors"):
            open_tensors({"a/b": np.ones(1), "a": {"b": np.ones(1)}})
        with pytest.raises(CheckpointError, match="tensor '1': is the name of two different tensors"):
            open_tensors({"1": np.ones(1), 1: np.ones(1)})


def test_flax_default_is_what_flax_packs():
    """An array is ext 1 around (shape, name of the dtype, bytes), by flax.serialization._ndarray_to_bytes."""
    assert flax_default(np.zeros((2,), np.float32)) == msgpack.ExtType(1, msgpack.packb(((2,), "float32", bytes(8))))


def test_safetensors_written_by_its_own_library_with_metadata(tmp_path):
    safetensors.numpy.save_file({"w": np.ones(2)}, tmp_path / "x.safetensors", metadata={"format": "pt"})
    with open_tensors(tmp_path / "x.safetensors") as store:
        assert set(store.shapes) == {"w"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"x\.pt: is not a regular file"):
        open_tensors(tmp_path / "x.pt")
