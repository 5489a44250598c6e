"""A checkpoint in several files: an index that names the file of each tensor, or files numbered 00001-of-00003 without one.

Source: huggingface_hub.split_torch_state_dict_into_shards; the index is {"metadata": ..., "weight_map": {tensor: file}}.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from ssm_analysis.checkpoint.containers.plain_json import read_json
from ssm_analysis.checkpoint.containers.single_file import open_file
from ssm_analysis.checkpoint.containers.trees import left_out
from ssm_analysis.checkpoint.problems import Problem, ProblemKind, as_problem, missing
from ssm_analysis.checkpoint.store import CheckpointError, TensorStore, few

NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(?P<suffix>\.[a-z]+)")
MOST_FILES = 10_000
"""Files; the largest published models have 400."""


def open_index(path: Path) -> TensorStore:
    """Return the tensors of all files that an ``*.index.json`` names; what is missing is told, the rest is read."""
    index = read_json(path)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise CheckpointError('is no index of files: {"weight_map": {tensor: file}} is wanted', path=path)
    for file in set(weight_map.values()):
        _check_inside(file, path)
    return _merge(path, sorted(set(weight_map.values())), weight_map)


def open_numbered(first: Path) -> TensorStore:
    """Return the tensors of all files numbered like this one, for folders whose index is lost."""
    match = NUMBERED.fullmatch(first.name)
    assert match is not None
    total = min(int(match["total"]), MOST_FILES)
    names = [f"{match['stem']}-{number:05}-of-{match['total']}{match['suffix']}" for number in range(1, total + 1)]
    return _merge(first, names, {})


def _check_inside(file: str, index: Path) -> None:
    """Raise a CheckpointError unless a name stays in the folder of the index. Links are followed: hub caches consist of them."""
    parts = PureWindowsPath(file).parts
    outside = ".." in parts or PureWindowsPath(file).anchor or PurePosixPath(file).is_absolute() or "\0" in file or not parts
    if outside:
        raise CheckpointError(f"names the file {file!r:.200}, which is outside its folder; refused", path=index)


def _merge(source: Path, names: Sequence[str], weight_map: Mapping[str, str]) -> TensorStore:
    if len(names) > MOST_FILES:
        raise CheckpointError(f"names {len(names)} files; at most {MOST_FILES:,} are read", path=source)
    problems: list[str] = []
    with ExitStack() as stack:
        shards: dict[str, TensorStore] = {}
        for name in names:
            try:
                shards[name] = stack.enter_context(open_file(source.parent / name))
            except CheckpointError as error:
                problems.append(missing(f"missing or unreadable: {error}"))
        owner: dict[str, str] = {}
        for name, shard in shards.items():
            problems += [Problem(kind=problem.kind, text=f"{name}: {problem}") for problem in map(as_problem, shard.problems)]
            for tensor in shard.shapes:
                if tensor not in owner or weight_map.get(tensor) == name:
                    owner[tensor] = name
        problems += _disagreements(shards, weight_map)
        if len(problems) > 20:
            rest = [as_problem(problem) for problem in problems[20:]]
            kind = next((problem.kind for problem in rest if problem.may_hide_a_layer), ProblemKind.NOTE)
            problems = [*problems[:20], Problem(kind=kind, text=f"and {len(rest)} problems more")]

        def fetch(tensor: str) -> np.ndarray:
            return shards[owner[tensor]].fetch(tensor)

        return TensorStore(
            shapes={tensor: shards[name].shapes[tensor] for tensor, name in owner.items()},
            dtypes={tensor: shards[name].dtypes[tensor] for tensor, name in owner.items()},
            fetch=fetch,
            description=f"{_kind(shards)} in {len(shards)} of {len(names)} files, {len(owner)} tensors",
            source=str(source),
            problems=tuple(problems),
            resources=stack.pop_all(),
        )


def _kind(shards: Mapping[str, TensorStore]) -> str:
    """Return which container, as the first of the files says."""
    return next((shard.description.partition(" file")[0] for shard in shards.values()), "nothing")


def _disagreements(shards: Mapping[str, TensorStore], weight_map: Mapping[str, str]) -> list[str]:
    """Return what the files hold against what the index says, and against each other."""
    found: dict[str, list[str]] = {}
    for name, shard in shards.items():
        for tensor in shard.shapes:
            found.setdefault(tensor, []).append(name)
    problems: list[str] = []
    absent = [tensor for tensor in weight_map if tensor not in found]
    if absent:
        problems.append(missing(f"missing: {len(absent)} tensors of the index, {few(absent)}"))
    extra = [tensor for tensor in found if tensor not in weight_map] if weight_map else []
    if extra:
        problems.append(f"not in the index but in its files, read all the same: {few(extra)}")
    moved = [tensor for tensor, files in found.items() if tensor in weight_map and weight_map[tensor] not in files]
    if moved:
        problems.append(f"in another file than the index says: {few(moved)}")
    twice = [tensor for tensor, files in found.items() if len(files) > 1]
    return problems + list(left_out("a second tensor of the same name in another file", twice))
