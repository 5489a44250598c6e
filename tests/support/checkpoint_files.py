"""Writers of every container, each by the library that owns the format, or from the format's own description."""

import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import msgpack
import numpy as np
import safetensors.numpy
import tensorstore
import torch


def tree_of(rng, dtype="float32"):
    """A small nested tree, as flax nests it, one of whose keys has a dot in it."""
    draw = lambda *shape: rng.standard_normal(shape).astype(dtype)  # noqa: E731
    return {"params": {"layers_0": {"seq": {"B": draw(4, 3), "D": draw(3)}}, "a.b": {"scale": draw(2)}, "step_size": draw()}}


def flat(tree, prefix=""):
    """Names joined by "/"."""
    result = {}
    for key, value in tree.items():
        result.update(flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return result


def as_torch(x):
    """A tensor of the same precision; torch does not take numpy arrays of ml_dtypes."""
    x = np.asarray(x, order="C")
    name = x.dtype.name
    if x.dtype.type.__module__ != "ml_dtypes":
        return torch.from_numpy(x.copy())
    return torch.from_numpy(x.view(f"u{x.dtype.itemsize}").copy()).view(getattr(torch, name))


def write_safetensors(path, tensors):
    safetensors.numpy.save_file({name: np.asarray(x, order="C") for name, x in tensors.items()}, path)
    return path


def write_torch(path, tensors):
    torch.save({name: as_torch(x) for name, x in tensors.items()}, path)
    return path


def write_torch_legacy(path, tensors):
    torch.save({name: as_torch(x) for name, x in tensors.items()}, path, _use_new_zipfile_serialization=False)
    return path


def write_npz(path, tensors):
    np.savez(path.with_suffix(".npz"), **tensors)
    return path.with_suffix(".npz")


def write_npz_compressed(path, tensors):
    np.savez_compressed(path.with_suffix(".npz"), **tensors)
    return path.with_suffix(".npz")


def flax_default(x):
    """What flax.serialization packs arrays, numpy scalars and complex numbers into."""
    if isinstance(x, np.ndarray):
        return msgpack.ExtType(1, msgpack.packb((x.shape, x.dtype.name, x.tobytes())))
    if isinstance(x, np.generic):
        x = np.asarray(x)
        return msgpack.ExtType(3, msgpack.packb((x.shape, x.dtype.name, x.tobytes())))
    return msgpack.ExtType(2, msgpack.packb((x.real, x.imag)))


def write_flax(path, tree):
    path.write_bytes(msgpack.packb(tree, default=flax_default, strict_types=True))
    return path


def write_orbax(folder, tree, *, ocdbt=True, zarr3=False):
    """The layout of orbax 0.12: ``_METADATA`` and one array a leaf, its path the keys joined by dots."""
    folder.mkdir(parents=True)
    driver = "zarr3" if zarr3 else "zarr"
    base = {"driver": "file", "path": f"{folder}/"}
    entries = {}
    for name, x in flat(tree).items():
        keys = _keys(tree, name)
        kvstore = {"driver": "ocdbt", "base": base, "path": ".".join(keys) + "/"}
        if not ocdbt:
            kvstore = {"driver": "file", "path": f"{folder}/{'.'.join(keys)}/"}
        x = np.asarray(x)
        spec = {"driver": driver, "kvstore": kvstore}
        tensorstore.open(spec, create=True, dtype=tensorstore.dtype(x.dtype), shape=x.shape).result().write(x).result()
        entries[str(keys)] = {
            "key_metadata": [{"key": key, "key_type": 2} for key in keys],
            "value_metadata": {"value_type": "jax.Array", "skip_deserialize": False},
        }
    entries["('nothing',)"] = {
        "key_metadata": [{"key": "nothing", "key_type": 2}],
        "value_metadata": {"value_type": "None", "skip_deserialize": True},
    }
    (folder / "_METADATA").write_text(json.dumps({"tree_metadata": entries, "use_ocdbt": ocdbt, "use_zarr3": zarr3}))
    return folder


def write_orbax_aggregated(folder, tree):
    """The layout of orbax 0.4 with ``SaveArgs(aggregate=True)``, flax's default: all arrays in one flax msgpack file."""
    folder.mkdir(parents=True)
    write_flax(folder / "checkpoint", tree)
    return folder


def _keys(tree, name):
    """The keys that lead to a name; a key may itself hold "/"."""
    for key, value in tree.items():
        if name == key and not isinstance(value, dict):
            return (key,)
        if name.startswith(f"{key}/") and isinstance(value, dict):
            return (key, *_keys(value, name[len(key) + 1 :]))
    raise KeyError(name)


FILES = {
    "safetensors": write_safetensors,
    "torch": write_torch,
    "torch before 1.6": write_torch_legacy,
    "npz": write_npz,
    "npz compressed": write_npz_compressed,
    "flax": write_flax,
}
"""Writers of flat dictionaries; flax and npz take names with "/" as they are."""

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def write_safetensors_header(path, header, size=0):
    """A safetensors file with any header, followed by a hole of ``size`` bytes."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    with Path(path).open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    return Path(path)


def write_falcon_mamba(folder):
    """Falcon-Mamba-7B without its numbers: config.json, index and headers of three files, holes of 14.5 GB that take no room on the disk.

    Names and shapes by transformers' FalconMambaForCausalLM. Returns the shapes by name.
    """
    width, inner, states, rank, vocabulary, layers = 4096, 8192, 16, 256, 65024, 64
    mixer = {
        "A_log": (inner, states), "D": (inner,), "conv1d.weight": (inner, 1, 4), "conv1d.bias": (inner,),
        "in_proj.weight": (2 * inner, width), "x_proj.weight": (rank + 2 * states, inner), "out_proj.weight": (width, inner),
        "dt_proj.weight": (inner, rank), "dt_proj.bias": (inner,),
    }  # fmt: skip
    shapes = {"backbone.embeddings.weight": (vocabulary, width)}
    for i in range(layers):
        shapes[f"backbone.layers.{i}.norm.weight"] = (width,)
        shapes.update({f"backbone.layers.{i}.mixer.{key}": shape for key, shape in mixer.items()})
    shapes.update({"backbone.norm_f.weight": (width,), "lm_head.weight": (vocabulary, width)})
    weight_map = {}
    for number, names in enumerate(np.array_split(list(shapes), 3), start=1):
        file, header, end = f"model-{number:05}-of-00003.safetensors", {}, 0
        for name in names.tolist():
            start, end = end, end + 2 * math.prod(shapes[name])
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [start, end]}
            weight_map[name] = file
        write_safetensors_header(folder / file, header, size=end)
    total = {"total_size": 2 * sum(map(math.prod, shapes.values()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": total, "weight_map": weight_map}))
    config = {
        "architectures": ["FalconMambaForCausalLM"], "model_type": "falcon_mamba", "hidden_size": width, "intermediate_size": inner,
        "state_size": states, "time_step_rank": rank, "conv_kernel": 4, "num_hidden_layers": layers, "vocab_size": vocabulary,
        "mixer_rms_eps": 1e-06, "use_conv_bias": True, "use_bias": False, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return shapes


def double(x):
    """The same numbers in 64 bits, through the widest type of each kind."""
    name = x.dtype.name
    if name in ("int4", "uint4"):
        return x.astype(name.replace("4", "8"))
    if name.startswith(("int", "uint", "bool")):
        return x
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def assert_holds(store, tensors):
    assert set(store.shapes) == set(tensors)
    for name, x in tensors.items():
        assert store.shapes[name] == x.shape
        assert store.dtypes[name] == x.dtype.name
        got = store.read(name)
        assert got.dtype == double(x).dtype
        np.testing.assert_array_equal(got, double(x))


def fresh(code):
    """What ``code`` prints, as JSON, in a new interpreter."""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120, cwd=Path(__file__).parents[2]
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)
