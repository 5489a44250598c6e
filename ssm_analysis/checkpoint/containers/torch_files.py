"""torch.save files: .pt, .pth, .bin, .ckpt. Their pickle is read by torch's closed unpickler; code in it is never run.

Files of torch 1.6 and later are zip archives, mapped to memory and read tensor by tensor; older ones are read whole.
"""

import re
import sys
import threading
import warnings
import zipfile
from collections.abc import Mapping, Set
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ssm_analysis.checkpoint.containers.binary_file import BinaryFile, check_warranted, file_size
from ssm_analysis.checkpoint.containers.npz_files import open_archive
from ssm_analysis.checkpoint.containers.state_dicts import select_weights
from ssm_analysis.checkpoint.containers.torch_standins import UNDERSTOOD, attacks, list_stand_in, named_globals, plain, stand_in
from ssm_analysis.checkpoint.containers.trees import flatten, left_out
from ssm_analysis.checkpoint.precision import SMALL_INTEGERS, numpy_dtype
from ssm_analysis.checkpoint.store import CheckpointError, TensorStore, few

OLDEST_TORCH = (2, 6)
"""Before it ``weights_only=True`` could be made to run code: CVE-2025-32434."""
LEGACY_PICKLES = 5
"""A file of before torch 1.6 is a magic number, a version, facts on the machine, the object, and the keys of its storages, all pickled;
then the numbers."""
MOST_CLASSES = 1000
"""Files name some tens; torch looks through all for each object."""
LISTS = frozenset(("collections.deque",))
MOST_GUESSES = 20
"""Classes of a configuration that are tried as lists."""
_ONE_AT_A_TIME = threading.Lock()
"""torch's list of what may be built is one for all threads."""


def open_torch(path: Path) -> TensorStore:
    """Return the tensors of one file that torch.save wrote; a Lightning checkpoint gives its ``hyper_parameters`` too."""
    _torch(path)
    size = file_size(path)
    with BinaryFile(path) as file:
        zipped = file.read(0, min(4, file.size)) == b"PK\x03\x04"
    tree, strangers = _load(path, _check_archive(path) if zipped else _legacy_globals(path), mmap=zipped)
    hyper_parameters = plain(tree["hyper_parameters"]) if isinstance(tree, Mapping) and "hyper_parameters" in tree else {}
    weights, left = select_weights(tree, is_tensor, path=path)
    leaves, skipped = flatten(weights, is_leaf=is_tensor, path=path)
    tensors, formats = dense_tensors(leaves)

    def fetch(name: str) -> np.ndarray:
        check_warranted(tensors[name].numel() * tensors[name].element_size(), size, path=path, tensor=name)
        return to_numpy(tensors[name])

    return TensorStore(
        shapes={name: tuple(x.shape) for name, x in tensors.items()},
        dtypes={name: dtype_name(x) for name, x in tensors.items()},
        fetch=fetch,
        description=f"torch file{'' if zipped else ' in the format of before torch 1.6'}, {len(tensors)} tensors",
        source=str(path),
        hyper_parameters=hyper_parameters if isinstance(hyper_parameters, dict) else {},
        problems=(*left, *skipped, *formats, *_kept_as_data(strangers)),
    )


def _kept_as_data(names: set[str]) -> tuple[str, ...]:
    """Return one problem for the classes that stand-ins took the place of, but for those that are fully understood."""
    strange = [name for name in sorted(names) if not name.startswith(UNDERSTOOD)]
    return (f"objects of {few(strange)} were kept as data: no code of a file is run",) if strange else ()


def is_tensor(x: object) -> bool:
    """Return whether it is a torch tensor; imports torch only if somebody else has."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def dense_tensors(leaves: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return those tensors that hold plain numbers, and what was left out."""
    import torch

    def is_plain(x: Any) -> bool:
        dense = type(x) in (torch.Tensor, torch.nn.Parameter) and x.layout is torch.strided and x.device.type != "meta"
        name = dtype_name(x)  # torch makes integers of less than 8 bits but cannot copy them
        return dense and (name == "complex32" or (numpy_dtype(name) is not None and name not in SMALL_INTEGERS))

    tensors = {name: x for name, x in leaves.items() if is_plain(x)}
    others = [name for name in leaves if name not in tensors]
    return tensors, left_out("sparse, quantized, without data or of a special class", others)


def dtype_name(x: Any) -> str:
    """Return the precision under numpy's name."""
    return str(x.dtype).removeprefix("torch.")


def to_numpy(x: Any) -> np.ndarray:
    """Return the numbers of a torch tensor in 64 bits, integers as they are; a copy, on the CPU."""
    import torch

    x = x.detach()
    if x.is_complex():
        x = x.to("cpu", torch.complex128, copy=True).resolve_conj()
    elif x.is_floating_point():
        x = x.to("cpu", torch.float64, copy=True)
    else:
        x = x.to("cpu", copy=True)
    return x.resolve_neg().numpy()


def _torch(path: Path) -> None:
    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            "is a torch file, and torch is not installed: pip install 'ssm-analysis[torch]', or save the weights as safetensors", path=path
        ) from error
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < OLDEST_TORCH:
        raise CheckpointError(
            f"is a torch file, and torch {torch.__version__} can be made to run code when it reads one (CVE-2025-32434): "
            "upgrade to torch 2.6 or later",
            path=path,
        )


def _check_archive(path: Path) -> set[str]:
    """Return names in the pickle of a zip archive, after checking that it is what torch.save writes: not compressed, not more than the
    file."""
    with ExitStack() as stack:
        archive = open_archive(path, stack)
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        if any(name.endswith("/constants.pkl") for name in names):
            raise CheckpointError("is a TorchScript archive, which is a program; save its state_dict()", path=path)
        packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
        if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise CheckpointError(f"holds compressed or overlapping entries ({few(packed)}), which torch.save never writes", path=path)
        pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise CheckpointError(f"holds {len(pickles)} files data.pkl, torch.save writes one", path=path)
        try:
            with archive.open(pickles[0]) as pickle:
                return named_globals(pickle)
        except Exception as error:  # of zipfile and pickletools, for damaged bytes
            raise CheckpointError(f"its pickle cannot be read: {error}", path=path) from error


def _legacy_globals(path: Path) -> set[str]:
    try:
        with path.open("rb") as file:
            return set().union(*(named_globals(file) for _ in range(LEGACY_PICKLES)))
    except Exception as error:  # of pickletools, for damaged bytes
        raise CheckpointError(f"its pickle cannot be read: {error}", path=path) from error


def _load(path: Path, names: set[str], *, mmap: bool) -> tuple[Any, set[str]]:
    """Return the tree in the file, and the names of classes that stand-ins took the place of."""
    bad = attacks(names)
    if bad:
        raise CheckpointError(
            f"is refused as hostile: its pickle names {few(bad)}, which weights never need; nothing of it was run", path=path
        )
    if len(names) > MOST_CLASSES:
        raise CheckpointError(f"its pickle names {len(names)} classes and functions; no checkpoint needs {MOST_CLASSES}", path=path)
    unknown = sorted(name for name in names if not name.startswith(("torch.", "collections.", "_codecs.")))
    try:
        return _closed_load(path, names, LISTS, mmap=mmap)
    except Exception as error:  # torch raises nearly anything for damaged files
        failure = error
    for name in unknown[:MOST_GUESSES] if "lists" in str(failure) else ():
        with suppress(Exception):
            return _closed_load(path, names, LISTS | {name}, mmap=mmap)
    named = f"; it names {few(unknown)}, which is not built because that would run code of the file" if unknown else ""
    raise CheckpointError(f"is damaged, or no file of weights{_cause(failure)}{named}; save the state_dict alone", path=path)


def _cause(failure: Exception) -> str:
    """Return torch's reason without its advice, which is ``weights_only=False`` and runs whatever the file says."""
    text = str(failure)
    line = (text.partition("WeightsUnpickler error:")[2] or text).strip().partition("\n")[0]
    return "" if re.search("eights.only|safe_globals", line) else f" ({type(failure).__name__}: {line:.200})"


def _closed_load(path: Path, names: set[str], lists: Set[str], *, mmap: bool) -> tuple[Any, set[str]]:
    """Return torch.load without code; what torch and the user allow stays allowed, the rest are stand-ins, of which the second value
    tells."""
    import torch

    met: set[str] = set()
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        users = torch.serialization.get_safe_globals()
        allowed = {item[1] if isinstance(item, tuple) else f"{item.__module__}.{item.__qualname__}" for item in users}
        pairs: list[Any] = [((list_stand_in if name in lists else stand_in)(name, met), name) for name in sorted(names - allowed)]
        with torch.serialization.safe_globals(pairs):
            return torch.load(path, map_location="cpu", mmap=mmap, weights_only=True), met
