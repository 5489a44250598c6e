"""JSON of a checkpoint folder: config.json and indices of shards."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssm_analysis.checkpoint.containers.binary_file import BinaryFile
from ssm_analysis.checkpoint.store import CheckpointError

LARGEST = 32 * 2**20
"""Bytes; the index of the largest published models (100,000 tensors) has 10 MB."""


def read_json(path: Path) -> Any:
    """Return the value in a JSON file; ``{"__float__": "Infinity"}``, which transformers writes for an infinite number, is that number."""
    with BinaryFile(path) as file:
        if file.size > LARGEST:
            raise CheckpointError(f"has {file.size} bytes; no configuration or index is as large", path=path)
        text = file.read(0, file.size)
    try:
        return json.loads(text, object_hook=_number)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"is not JSON: {error}", path=path) from error


def read_config(folder: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return the configuration that lies in a folder, empty if there is none, and what is wrong with it."""
    path = folder / "config.json"
    if not path.exists():
        return {}, ()
    try:
        config = read_json(path)
    except CheckpointError as error:
        return {}, (str(error),)
    if not isinstance(config, dict):
        return {}, (f"{path}: is not a JSON object but a {type(config).__name__}; left out",)
    return config, ()


def _number(value: dict[str, Any]) -> Any:
    text = value.get("__float__")
    return float(text) if len(value) == 1 and isinstance(text, str) else value
