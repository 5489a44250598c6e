"""What is in memory already: a live torch.nn.Module, a state dict, a nested tree of arrays such as flax's params."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ssm_analysis.checkpoint.containers.state_dicts import select_weights
from ssm_analysis.checkpoint.containers.trees import flatten, left_out
from ssm_analysis.checkpoint.precision import numpy_dtype
from ssm_analysis.checkpoint.store import TensorStore


def is_module(x: object) -> bool:
    """Return whether it is a torch.nn.Module; torch is not imported for the question."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.nn.Module)


def open_module(module: Any) -> TensorStore:
    """Return the state dict of a live torch.nn.Module, with Lightning's ``hparams`` and the ``config`` of a transformers or mamba_ssm
    model."""
    store = open_mapping(module.state_dict())
    return replace(
        store,
        description=f"live {type(module).__name__}, {len(store.shapes)} tensors",
        hyper_parameters=settings_of(getattr(module, "hparams", None)),
        config=settings_of(getattr(module, "config", None)),
    )


def open_mapping(tree: Mapping[Any, Any]) -> TensorStore:
    """Return the arrays of a mapping: of torch tensors the state dict in it, of others the tree with its levels joined by "/"."""
    arrays, problems = flatten(tree, is_leaf=_is_array)
    if any(_is_torch(x) for x in arrays.values()):
        weights, left = select_weights(tree, _is_array)
        arrays, skipped = flatten(weights, is_leaf=_is_array)
        arrays, formats = _dense(arrays)
        problems = (*left, *skipped, *formats)
    dtypes = {name: _dtype_name(x) for name, x in arrays.items()}
    strange = [name for name, dtype in dtypes.items() if numpy_dtype(dtype) is None and not _is_torch(arrays[name])]
    numbers = {name: x for name, x in arrays.items() if name not in strange}
    return TensorStore(
        shapes={name: tuple(x.shape) for name, x in numbers.items()},
        dtypes={name: dtypes[name] for name in numbers},
        fetch=lambda name: _to_numpy(numbers[name]),
        description=f"in memory, {len(numbers)} tensors",
        hyper_parameters=settings_of(tree.get("hyper_parameters")),
        problems=(*problems, *left_out("no numbers that 64 bits hold exactly", strange)),
    )


def settings_of(x: Any) -> Mapping[str, Any]:
    """Return a configuration by name: a mapping, an object of transformers (``to_dict``), a dataclass or a namespace."""
    if hasattr(x, "to_dict"):
        x = x.to_dict()
    return x if isinstance(x, Mapping) else getattr(x, "__dict__", {})


def _is_array(x: object) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype")


def _is_torch(x: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def _dense(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    from ssm_analysis.checkpoint.containers.torch_files import dense_tensors

    tensors, problems = dense_tensors({name: x for name, x in arrays.items() if _is_torch(x)})
    return {name: x for name, x in arrays.items() if name in tensors or not _is_torch(x)}, problems


def _dtype_name(x: Any) -> str:
    return getattr(x.dtype, "name", None) or str(x.dtype).removeprefix("torch.")


def _to_numpy(x: Any) -> np.ndarray:
    """Return a copy: what the caller does to his arrays afterwards does not reach ours."""
    if not _is_torch(x):
        return np.array(x)
    from ssm_analysis.checkpoint.containers.torch_files import to_numpy

    return to_numpy(x)
