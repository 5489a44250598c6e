"""orbax: a folder of zarr arrays, in one OCDBT key-value store (the default) or as subfolders; read by tensorstore.

Source: orbax.checkpoint. ``_METADATA`` lists the tree; the array of the keys (a, b, c) lies under the path "a.b.c". Until version 0.5 a
flax msgpack file ``checkpoint`` has the tree, with arrays in it (``SaveArgs(aggregate=True)``) or strings that name their paths.
"""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ssm_analysis.checkpoint.containers.binary_file import UNWARRANTED, BinaryFile, check_warranted
from ssm_analysis.checkpoint.containers.flax_msgpack import Located, is_packed, locate
from ssm_analysis.checkpoint.containers.msgpack_scan import scan
from ssm_analysis.checkpoint.containers.plain_json import read_json
from ssm_analysis.checkpoint.containers.trees import MOST_NAMES, flatten, left_out
from ssm_analysis.checkpoint.precision import numpy_dtype
from ssm_analysis.checkpoint.store import CheckpointError, TensorStore

METADATA, OCDBT, AGGREGATE = "_METADATA", "manifest.ocdbt", "checkpoint"
PLACEHOLDER = "PLACEHOLDER://"
ARRAY_FILES = {".zarray": "zarr", "zarr.json": "zarr3"}
EMPTY = frozenset(("None", "Dict", "List", "Tuple", "NamedTuple", "string"))
"""Types of values of the tree that have no array."""


@dataclass(frozen=True, kw_only=True)
class _Place:
    path: str
    driver: str


def is_orbax(folder: Path) -> bool:
    """Return whether the folder itself is an orbax checkpoint; not one that has such folders."""
    return any((folder / name).is_file() for name in (METADATA, OCDBT))


def open_orbax(folder: Path) -> TensorStore:
    """Return the arrays of one orbax checkpoint; the tree of keys joined by "/", keys with dots as they are."""
    with ExitStack() as stack:
        packed: dict[str, Located] = {}
        named: dict[str, _Place] = {}
        problems: tuple[str, ...] = ()
        if (folder / AGGREGATE).is_file():
            packed, named, problems = _aggregated(stack.enter_context(BinaryFile(folder / AGGREGATE)))
        if (folder / METADATA).is_file():
            places, left = flatten(_listed_tree(folder), is_leaf=lambda node: isinstance(node, _Place), path=folder)
            problems = (*left, *problems)
        else:
            places = named or ({} if packed else _found(_tensorstore(folder), folder))
        arrays, unreadable = _opened({name: place for name, place in places.items() if name not in packed}, folder)

        def fetch(name: str) -> np.ndarray:
            return packed[name].read() if name in packed else _read(arrays[name], folder, name)

        every = {**packed, **arrays}
        return TensorStore(
            shapes={name: tuple(x.shape) for name, x in every.items()},
            dtypes={name: x.dtype.name for name, x in every.items()},
            fetch=fetch,
            description=f"orbax folder, {len(every)} tensors",
            source=str(folder),
            problems=(*dict.fromkeys(problems), *unreadable),
            resources=stack.pop_all(),
        )


def _aggregated(file: BinaryFile) -> tuple[dict[str, Located], dict[str, _Place], tuple[str, ...]]:
    """Return arrays in the file ``checkpoint``, and places that it names."""
    leaves, problems = flatten(scan(file)[0], is_leaf=lambda node: is_packed(node) or _is_placeholder(node), path=file.path)
    strings = {name: leaf.removeprefix(PLACEHOLDER) for name, leaf in leaves.items() if isinstance(leaf, str)}
    for place in strings.values():
        _check_inside(place, file.path)
    packed, damaged = locate(file, {name: leaf for name, leaf in leaves.items() if name not in strings})
    return packed, {name: _Place(path=f"{place}/", driver="zarr") for name, place in strings.items()}, (*problems, *damaged)


def _is_placeholder(node: Any) -> bool:
    return isinstance(node, str) and node.startswith(PLACEHOLDER)


def _tensorstore(folder: Path) -> Any:
    try:
        import tensorstore
    except ImportError as error:
        raise CheckpointError("is an orbax checkpoint, which tensorstore reads: pip install 'ssm-analysis[orbax]'", path=folder) from error
    return tensorstore


def _opened(places: Mapping[str, _Place], folder: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the arrays of tensorstore by name, and which could not be opened."""
    if not places:
        return {}, ()
    tensorstore, kvstore = _tensorstore(folder), _kvstore(folder)
    waiting = {name: tensorstore.open(_spec(kvstore, place), open=True, read=True) for name, place in places.items()}
    arrays: dict[str, Any] = {}
    failed, strange = [], []
    for name, future in waiting.items():
        try:
            array = future.result()
        except Exception as error:  # tensorstore raises by the status of its C++ side
            failed.append(f"tensor {name!r} left out: {_reason(error)}")
            continue
        if numpy_dtype(array.dtype.name) is None:
            strange.append(name)
        else:
            arrays[name] = array
    return arrays, (*_first(failed), *left_out("no numbers that 64 bits hold exactly", strange))


def _read(array: Any, folder: Path, name: str) -> np.ndarray:
    _check_size(array, folder, name)
    try:
        return array.read().result()
    except Exception as error:  # as above
        raise CheckpointError(f"cannot be read: {_reason(error)}", path=folder, tensor=name) from error


def _kvstore(folder: Path) -> dict[str, Any]:
    base = {"driver": "file", "path": f"{folder.resolve()}/"}
    return {"driver": "ocdbt", "base": base} if (folder / OCDBT).is_file() else base


def _spec(kvstore: Mapping[str, Any], place: _Place) -> dict[str, Any]:
    return {"driver": place.driver, "kvstore": {**kvstore, "path": kvstore.get("path", "") + place.path}}


def _listed_tree(folder: Path) -> dict[str, Any]:
    """Return the tree of ``_METADATA`` with the place of each array as a leaf."""
    path = folder / METADATA
    metadata = read_json(path)
    entries = metadata.get("tree_metadata") if isinstance(metadata, dict) else None
    if not isinstance(entries, dict) or len(entries) > MOST_NAMES:
        raise CheckpointError("lists no tree of tensors", path=path)
    driver = "zarr3" if metadata.get("use_zarr3") else "zarr"
    tree: dict[str, Any] = {}
    for entry in entries.values():
        keys, kind = _keys_and_kind(entry, path)
        if kind in EMPTY:
            continue
        place = ".".join(keys)
        _check_inside(place, path)
        node = tree
        for key in keys[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise CheckpointError("is the name of a tensor and of a part of the tree", path=path, tensor="/".join(keys))
        if keys[-1] in node:
            raise CheckpointError("is listed twice", path=path, tensor="/".join(keys))
        node[keys[-1]] = _Place(path=f"{place}/", driver=driver)
    return tree


def _keys_and_kind(entry: Any, path: Path) -> tuple[tuple[str, ...], str]:
    match entry:
        case {"key_metadata": [_, *_] as keys, "value_metadata": {"value_type": str(kind), **rest}} if all(
            isinstance(key, dict) and isinstance(key.get("key"), str | int) for key in keys
        ):
            return tuple(str(key["key"]) for key in keys), "None" if rest.get("skip_deserialize") else kind
    raise CheckpointError(f"has an entry that is none of orbax: {entry!r:.200}", path=path)


def _found(tensorstore: Any, folder: Path) -> dict[str, _Place]:
    """Return without a list of the tree: the arrays in the key-value store, whose dots cannot be told from levels of the tree and stay."""
    try:
        keys = tensorstore.KvStore.open(_kvstore(folder)).result().list().result()
    except Exception as error:  # as above
        raise CheckpointError(f"cannot be read: {_reason(error)}", path=folder) from error
    split = [key.decode("utf-8", "backslashreplace").rpartition("/") for key in keys]
    return {name: _Place(path=f"{name}/", driver=ARRAY_FILES[file]) for name, _, file in split if file in ARRAY_FILES}


def _check_inside(place: str, path: Path) -> None:
    parts = place.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in place or "\0" in place:
        raise CheckpointError(f"names {place!r:.200}, which may lie outside the checkpoint; refused", path=path)


def _check_size(array: Any, folder: Path, name: str) -> None:
    """Raise a CheckpointError where an array, or one chunk of it, would fill far more memory than the folder stores."""
    nbytes = max(prod(array.shape), prod(array.chunk_layout.read_chunk.shape or ())) * array.dtype.numpy_dtype.itemsize
    if nbytes > UNWARRANTED:
        stored = sum((Path(parent) / file).lstat().st_size for parent, _, files in os.walk(folder) for file in files)
        check_warranted(nbytes, stored, path=folder, tensor=name)


def _reason(error: Exception) -> str:
    return str(error).partition(" [")[0][:300]


def _first(problems: list[str]) -> list[str]:
    return problems if len(problems) <= 20 else [*problems[:20], f"and {len(problems) - 20} tensors more"]
