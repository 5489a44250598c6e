"""flax msgpack: a nested tree of names whose arrays are msgpack "ext" values.

Source: flax.serialization. Ext code 1 is an array and 3 a numpy scalar, both (shape, name of the dtype, bytes in C order); 2 is a Python
complex number (real, imaginary). An array of more than 2**30 bytes is a map of chunks of itself, flattened.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ssm_analysis.checkpoint.containers.binary_file import BinaryFile
from ssm_analysis.checkpoint.containers.msgpack_scan import Bytes, scan
from ssm_analysis.checkpoint.containers.trees import flatten
from ssm_analysis.checkpoint.precision import numpy_dtype
from ssm_analysis.checkpoint.store import CheckpointError, TensorStore

CHUNKED = "__msgpack_chunked_array__"
ARRAY, COMPLEX, SCALAR = 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class Located:
    """Where the numbers of one array lie in a file: in one piece, or in the chunks of a very long one."""

    file: BinaryFile
    dtype: np.dtype
    shape: tuple[int, ...]
    pieces: tuple[Bytes, ...]

    def read(self) -> np.ndarray:
        """Return the numbers."""
        data = b"".join(self.file.read(piece.offset, piece.size) for piece in self.pieces)
        return np.frombuffer(data, dtype=self.dtype).reshape(self.shape)


def open_flax(path: Path) -> TensorStore:
    """Return the tensors of one flax msgpack file."""
    with ExitStack() as stack:
        file = stack.enter_context(BinaryFile(path))
        tree, end = scan(file)
        leaves, problems = flatten(tree, is_leaf=is_packed, path=path)
        arrays, damaged = locate(file, leaves)
        trailing = f"{file.size - end} bytes follow the tree; the file is damaged or holds more than one"
        return TensorStore(
            shapes={name: x.shape for name, x in arrays.items()},
            dtypes={name: x.dtype.name for name, x in arrays.items()},
            fetch=lambda name: arrays[name].read(),
            description=f"flax msgpack file, {len(arrays)} tensors",
            source=str(path),
            problems=(*problems, *damaged, *([trailing] if end < file.size else [])),
            resources=stack.pop_all(),
        )


def is_packed(node: Any) -> bool:
    """Return whether a node of the scanned tree is what flax packs an array or a number into."""
    return CHUNKED in node if isinstance(node, Mapping) else isinstance(node, Bytes) and node.code in (ARRAY, COMPLEX, SCALAR)


def locate(file: BinaryFile, leaves: Mapping[str, Any]) -> tuple[dict[str, Located], tuple[str, ...]]:
    """Return shape, dtype and place of each array, and what is wrong with the others."""
    arrays: dict[str, Located] = {}
    problems: list[str] = []
    for name, leaf in leaves.items():
        try:
            arrays[name] = _chunked(file, leaf) if isinstance(leaf, Mapping) else _stored(file, leaf)
        except CheckpointError as error:
            problems.append(f"tensor {name!r} left out: {error}")
    return arrays, tuple(problems)


def _stored(file: BinaryFile, leaf: Bytes) -> Located:
    value, _ = scan(file, leaf.offset, leaf.offset + leaf.size)
    if leaf.code == COMPLEX:
        return _complex(file, leaf, value)
    match value:
        case [list(shape), str(name), Bytes(code=None) as data] if all(isinstance(size, int) and size >= 0 for size in shape):
            dtype = numpy_dtype(name)
        case _:
            raise CheckpointError("is no array of flax: (shape, dtype, bytes) is wanted", path=file.path)
    if dtype is None:
        raise CheckpointError(f"has dtype {name!r:.80}, which is not a number that 64 bits hold exactly", path=file.path)
    if prod(shape) * dtype.itemsize != data.size:
        raise CheckpointError(f"has shape {tuple(shape)} and dtype {name}, which do not fit its {data.size} bytes", path=file.path)
    return Located(file=file, dtype=dtype, shape=tuple(shape), pieces=(data,))


def _complex(file: BinaryFile, leaf: Bytes, value: Any) -> Located:
    # (real, imaginary) as two msgpack doubles: a header byte before each, big-endian
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(part, float) for part in value) and leaf.size == 19):
        raise CheckpointError("is no complex number of flax: two doubles are wanted", path=file.path)
    parts = tuple(Bytes(offset=leaf.offset + start, size=8, code=None) for start in (2, 11))
    return Located(file=file, dtype=np.dtype(">c16"), shape=(), pieces=parts)


def _chunked(file: BinaryFile, node: Mapping[Any, Any]) -> Located:
    shape, chunks = (list(x.values()) if isinstance(x, Mapping) else x for x in (node.get("shape"), node.get("chunks")))
    if not (isinstance(shape, list) and isinstance(chunks, list) and chunks and all(isinstance(x, Bytes) for x in chunks)):
        raise CheckpointError("is no array in chunks: a shape and chunks are wanted", path=file.path)
    parts = [_stored(file, chunk) for chunk in chunks]
    dtypes = {part.dtype for part in parts}
    sizes_fit = all(isinstance(size, int) and size >= 0 for size in shape) and prod(shape) == sum(prod(part.shape) for part in parts)
    if len(dtypes) > 1 or not sizes_fit:
        raise CheckpointError(f"has shape {tuple(shape)} but chunks that do not fit together", path=file.path)
    return Located(file=file, dtype=dtypes.pop(), shape=tuple(shape), pieces=tuple(piece for part in parts for piece in part.pieces))
