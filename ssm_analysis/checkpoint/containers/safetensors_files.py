"""safetensors: an 8-byte length, a JSON header, the tensors one after the other.

The library judges whether a file is valid (sizes, overlaps, gaps); the numbers are then read from the offsets of the header, because
its numpy door knows neither 8-bit floats nor how to say that a name stands in the header twice (it takes the last).

Source: https://github.com/huggingface/safetensors, "Format" in its README.
"""

import json
import struct
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ssm_analysis.checkpoint.containers.binary_file import BinaryFile
from ssm_analysis.checkpoint.containers.plain_json import LARGEST
from ssm_analysis.checkpoint.containers.trees import left_out
from ssm_analysis.checkpoint.precision import numpy_dtype
from ssm_analysis.checkpoint.store import CheckpointError, TensorStore

DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32", "U64": "uint64",
    "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
"""Without the packed formats of less than 8 bits (F4, F6_*): they need scales that the format does not name."""


@dataclass(frozen=True, kw_only=True)
class _Stored:
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int


def open_safetensors(path: Path) -> TensorStore:
    """Return the tensors of one safetensors file."""
    _validate(path)
    with ExitStack() as stack:
        file = stack.enter_context(BinaryFile(path))
        tensors, strange = _tensors(file)

        def fetch(name: str) -> np.ndarray:
            stored = tensors[name]
            data = file.read(stored.offset, prod(stored.shape) * stored.dtype.itemsize)
            return np.frombuffer(data, dtype=stored.dtype).reshape(stored.shape)

        return TensorStore(
            shapes={name: stored.shape for name, stored in tensors.items()},
            dtypes={name: stored.dtype.name for name, stored in tensors.items()},
            fetch=fetch,
            description=f"safetensors file, {len(tensors)} tensors",
            source=str(path),
            problems=left_out("stored in a format of packed bits that cannot be read without its scales", strange),
            resources=stack.pop_all(),
        )


def _validate(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"is not a valid safetensors file, or is cut off: {error}", path=path) from error


def _tensors(file: BinaryFile) -> tuple[dict[str, _Stored], list[str]]:
    """Return what the header says of each tensor, and the names of those in packed formats."""
    (length,) = struct.unpack("<Q", file.read(0, 8))
    if length > LARGEST:
        raise CheckpointError(f"has a header of {length} bytes; no model needs as many names", path=file.path)
    try:
        header = json.loads(file.read(8, length), object_pairs_hook=lambda pairs: _once(pairs, file.path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"its header is not JSON: {error}", path=file.path) from error
    header.pop("__metadata__", None)
    known = {name: entry for name, entry in header.items() if entry["dtype"] in DTYPES}
    return {name: _stored(entry, 8 + length) for name, entry in known.items()}, [name for name in header if name not in known]


def _stored(entry: Mapping[str, Any], start: int) -> _Stored:
    dtype = numpy_dtype(DTYPES[entry["dtype"]])
    assert dtype is not None
    return _Stored(dtype=dtype, shape=tuple(entry["shape"]), offset=start + entry["data_offsets"][0])


def _once(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise CheckpointError("stands in the header twice", path=path, tensor=twice)
    return result
