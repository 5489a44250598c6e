"""npz: a zip archive of .npy files. Objects in them are pickles, which could run code: they are never read.

Source: numpy.lib.format, "Format Version 1.0".
"""

import zipfile
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ssm_analysis.checkpoint.containers.binary_file import check_warranted, file_size
from ssm_analysis.checkpoint.precision import numpy_dtype
from ssm_analysis.checkpoint.store import CheckpointError, TensorStore

READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""Version 3 differs by names of fields in Unicode; arrays with fields are no tensors."""


def open_npz(path: Path) -> TensorStore:
    """Return the arrays of one npz file; keys as they are, also flat ones with "/"."""
    with ExitStack() as stack:
        archive = open_archive(path, stack)
        headers: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
        entries: dict[str, zipfile.ZipInfo] = {}
        problems: list[str] = []
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name in entries:
                raise CheckpointError("stands in the archive twice", path=path, tensor=name)
            entries[name] = entry
            try:
                headers[name] = _header(archive, entry, path)
            except CheckpointError as error:
                problems.append(str(error))

        def fetch(name: str) -> np.ndarray:
            return _array(archive, entries[name], path)

        return TensorStore(
            shapes={name: shape for name, (_, shape) in headers.items()},
            dtypes={name: dtype.name for name, (dtype, _) in headers.items()},
            fetch=fetch,
            description=f"npz file, {len(headers)} tensors",
            source=str(path),
            problems=tuple(problems),
            resources=stack.pop_all(),
        )


def open_archive(path: Path, stack: ExitStack) -> zipfile.ZipFile:
    """Return the directory of a zip archive."""
    file_size(path)
    try:
        return stack.enter_context(zipfile.ZipFile(path))
    except Exception as error:  # damaged archives raise nearly anything
        raise CheckpointError(f"is a zip archive that is damaged or cut off: {error}", path=path) from error


def _header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    """Return dtype and shape of one array, after checking that as many bytes are there."""
    name = entry.filename.removesuffix(".npy")
    if not entry.filename.endswith(".npy"):
        raise CheckpointError("is not an .npy file; left out", path=path, tensor=name)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CheckpointError("is compressed in a way numpy does not write; left out", path=path, tensor=name)
    try:
        with archive.open(entry) as file:
            shape, dtype = _read_header(file)
            start = file.tell()
    except Exception as error:  # of zipfile, zlib, numpy and the parser of Python's literals, for damaged bytes
        raise CheckpointError(f"is damaged: {error}; left out", path=path, tensor=name) from error
    if dtype.hasobject:
        raise CheckpointError("holds pickled Python objects, which could run code; left out", path=path, tensor=name)
    if numpy_dtype(dtype.name) is None:
        hint = " (bfloat16 perhaps, whose name npz loses; save it as float32)" if dtype.kind == "V" else ""
        raise CheckpointError(f"holds {dtype}, which 64 bits do not hold exactly{hint}; left out", path=path, tensor=name)
    nbytes = prod(shape) * dtype.itemsize
    if any(size < 0 for size in shape) or start + nbytes != entry.file_size:
        raise CheckpointError(f"has shape {shape} and {entry.file_size - start} bytes, which do not fit; left out", path=path, tensor=name)
    check_warranted(nbytes, entry.compress_size, path=path, tensor=name)
    return dtype, shape


def _read_header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    if version not in READERS:
        raise ValueError(f"version {version} of the .npy format holds no plain numbers")
    shape, _, dtype = READERS[version](file)
    return shape, dtype


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> np.ndarray:
    try:
        with archive.open(entry) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # as above
        raise CheckpointError(f"is damaged: {error}", path=path, tensor=entry.filename.removesuffix(".npy")) from error
