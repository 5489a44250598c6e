"""One door to every container."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssm_analysis.checkpoint.containers.folder import open_folder
from ssm_analysis.checkpoint.containers.in_memory import is_module, open_mapping, open_module
from ssm_analysis.checkpoint.containers.plain_json import read_config
from ssm_analysis.checkpoint.containers.sharded import open_index
from ssm_analysis.checkpoint.containers.single_file import TENSORFLOW, open_file
from ssm_analysis.checkpoint.store import CheckpointError, TensorStore


def open_tensors(source: str | os.PathLike[str] | Mapping[Any, Any] | Any) -> TensorStore:
    """Return the named tensors of a checkpoint, opened without reading them.

    Same as ``safetensors.safe_open`` for every container: safetensors (in shards too), torch files and Lightning checkpoints, flax
    msgpack, npz, orbax, folders with any of these, state dicts and live modules.

    Parameters
    ----------
    source
        A local file or folder; a mapping of names to arrays of numpy, torch or jax, nested or not; or a torch.nn.Module.

    Returns
    -------
    TensorStore
        A context manager. Which file of a folder is read is told in ``ssm_analysis.checkpoint.containers.folder.ORDER``.

    Raises
    ------
    CheckpointError
        If there is nothing to read. What can be read in part is, and ``problems`` says what is missing.
    TypeError
        If ``source`` is none of these.

    Examples
    --------
    >>> from ssm_analysis.checkpoint import open_tensors
    >>> with open_tensors({"layer": {"A_log": np.zeros((2, 3), np.float16)}}) as store:
    ...     store.shapes["layer/A_log"], store.dtypes["layer/A_log"], store.read("layer/A_log").dtype
    ((2, 3), 'float16', dtype('float64'))
    """
    if is_module(source):
        return open_module(source)
    if isinstance(source, Mapping):
        return open_mapping(source)
    if isinstance(source, str | os.PathLike):
        try:
            return _open_path(Path(source))
        except OSError as error:  # of looking at names: a folder that may not be entered, a name that is too long
            raise CheckpointError(f"cannot be opened: {error.strerror or error}", path=source) from error
    raise TypeError(f"source must be a path, a mapping of names to arrays or a torch.nn.Module, got {type(source).__name__}")


def _open_path(path: Path) -> TensorStore:
    if path.is_dir():
        return open_folder(path)
    if not (path.exists() or path.is_symlink()):
        if path.name and path.with_name(f"{path.name}.index").exists():  # TensorFlow's users pass the common part of the names
            raise CheckpointError(TENSORFLOW, path=path)
        raise CheckpointError("no such file or folder; models of a hub must be downloaded first", path=path)
    if path.name.endswith(".index.json"):
        store = open_index(path)
    elif path.suffix == ".json":
        raise CheckpointError("is a configuration and holds no weights; pass the folder", path=path)
    else:
        store = open_file(path)
    config, problems = read_config(path.parent)
    return replace(store, config=config, problems=(*store.problems, *problems))
