"""Which container one file is, told by its first bytes; names of files tell nothing."""

import re
import struct
from contextlib import ExitStack
from pathlib import Path

from ssm_analysis.checkpoint.containers.binary_file import BinaryFile
from ssm_analysis.checkpoint.containers.flax_msgpack import open_flax
from ssm_analysis.checkpoint.containers.npz_files import open_archive, open_npz
from ssm_analysis.checkpoint.containers.safetensors_files import open_safetensors
from ssm_analysis.checkpoint.containers.torch_files import open_torch
from ssm_analysis.checkpoint.store import CheckpointError, TensorStore

LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""torch.serialization.MAGIC_NUMBER, pickled."""
FOREIGN = {
    b"version https://git-lfs": "is a pointer that Git LFS left in place of the file: run git lfs pull",
    b"GGUF": "is a GGUF file; convert it, or load the checkpoint it was made from",
    b"\x89HDF": "is an HDF5 file (Keras); save the weights as npz or safetensors",
    b"\x93NUMPY": "is a single array without a name; save a dictionary of arrays with np.savez",
    b"\x1f\x8b": "is compressed with gzip; unpack it",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; unpack it",
    b"<": "is a web page or XML; a download that went wrong perhaps",
}
TENSORFLOW_FILE = re.compile(r".+\.data-\d{5}-of-\d{5}")
LEVELDB = struct.pack("<Q", 0xDB4775248B80FB57)
"""The last bytes of an ``.index`` of TensorFlow: https://github.com/google/leveldb/blob/main/doc/table_format.md."""
TENSORFLOW = (
    "is a TensorFlow checkpoint, which TensorFlow alone reads; there, with its path without the suffix: np.savez('weights.npz', "
    "**{name: tf.train.load_variable(path, name) for name, _ in tf.train.list_variables(path)})"
)
MSGPACK_MAPS = frozenset([*range(0x80, 0x90), 0xDE, 0xDF])


def open_file(path: Path) -> TensorStore:
    """Return the tensors of one file, whatever its name."""
    with BinaryFile(path) as file:
        head = file.read(0, min(64, file.size))
        size = file.size
        tail = file.read(max(0, size - len(LEVELDB)), min(len(LEVELDB), size))
    if tail == LEVELDB or TENSORFLOW_FILE.fullmatch(path.name):
        raise CheckpointError(TENSORFLOW, path=path)
    for magic, complaint in FOREIGN.items():
        if head.startswith(magic):
            raise CheckpointError(complaint, path=path)
    if head.startswith(b"PK"):
        return _open_zip(path)
    if head.startswith(LEGACY_TORCH):
        return open_torch(path)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise CheckpointError("is a Python pickle, which could run any code; save the weights as safetensors or npz", path=path)
    if _like_safetensors(head, size) or path.suffix == ".safetensors":
        return open_safetensors(path)
    if head[0] in MSGPACK_MAPS:
        return open_flax(path)
    raise CheckpointError(
        f"begins with {head[:8]!r}, which is none of safetensors, torch, flax msgpack, npz or orbax (a folder)", path=path
    )


def _open_zip(path: Path) -> TensorStore:
    with ExitStack() as stack:
        names = open_archive(path, stack).namelist()
    if any(name.endswith(("/data.pkl", "/constants.pkl")) for name in names):
        return open_torch(path)
    if any(name.endswith(".npy") for name in names):
        return open_npz(path)
    raise CheckpointError("is a zip archive but neither a torch file nor npz; unpack it", path=path)


def _like_safetensors(head: bytes, size: int) -> bool:
    return len(head) > 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= size - 8
