"""A folder with a checkpoint in it: which file is read where there are several, and the configuration beside it."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from ssm_analysis.checkpoint.containers.orbax_folder import AGGREGATE, is_orbax, open_orbax
from ssm_analysis.checkpoint.containers.plain_json import read_config
from ssm_analysis.checkpoint.containers.sharded import NUMBERED, open_index, open_numbered
from ssm_analysis.checkpoint.containers.single_file import open_file
from ssm_analysis.checkpoint.store import CheckpointError, TensorStore, few

ORDER = (
    r"model\.safetensors",
    r"model\.safetensors\.index\.json",
    r"pytorch_model\.bin",
    r"pytorch_model\.bin\.index\.json",
    r"flax_model\.msgpack",
    r"flax_model\.msgpack\.index\.json",
    r".*\.index\.json",
    r".*\.safetensors",
    r"last.*\.ckpt",
    r".*\.(ckpt|pt|pth|bin)",
    r".*\.msgpack",
    r".*\.npz",
    r".*\.index",
    r"checkpoint(_\d+)?",
)
"""Which file of a folder is read: the first pattern that fits one; of several, that with the largest numbers (step 1000 after 500)."""
NOT_WEIGHTS = re.compile(r"(optimizer|scheduler|training_args|scaler|rng_state.*|random_states.*|tokenizer.*)\.(pt|pth|bin)|\..*")
"""What training programs put beside the weights under the same suffixes."""
STEP = re.compile(r"(?<![0-9A-Za-z])\d+(?![0-9A-Za-z])")
"""Number of a training step in the name of a folder; the last of several that differ by it alone is read."""
MOST_ENTRIES = 100_000
MOST_FOLDERS = 1000
SEARCH_DEPTH = 2
"""Folders below the one given: orbax's 1000/default, a hub cache's snapshots/<commit>."""
UNFINISHED = "orbax-checkpoint-tmp"


def open_folder(folder: Path) -> TensorStore:
    """Return the checkpoint in a folder, or in the one folder below it that has one."""
    found = _opener(folder)
    if found is not None:
        open_it, others = found
        note = (f"of several checkpoints in {folder} one was read; left out: {few(others)}",) if others else ()
        return _described(open_it(), folder, note)
    below = [str(path.relative_to(folder)) for path in islice(_with_checkpoint(folder, SEARCH_DEPTH), MOST_FOLDERS)]
    if len({STEP.sub("0", name) for name in below}) == 1:
        last, *others = sorted(below, key=_steps, reverse=True)
        store = open_folder(folder / last)
        left = f", the last of {len(below)}; left out: {few(others)}" if others else ""
        return replace(store, problems=(*store.problems, f"read from the folder {last}{left}"))
    if below:
        raise CheckpointError(f"holds {len(below)} folders with a checkpoint, pass one: {few(below)}", path=folder)
    names = sorted(path.name for path in _listed(folder))
    holds = f"holds no checkpoint, but {few(names)}" if names else "is an empty folder"
    raise CheckpointError(
        f"{holds}; wanted is a file .safetensors, .pt, .pth, .bin, .ckpt, .msgpack, .npz, or an orbax folder", path=folder
    )


def _opener(folder: Path) -> tuple[Callable[[], TensorStore], list[str]] | None:
    """Return what opens the checkpoint that comes first by the order above, and the names of the others."""
    if is_orbax(folder):
        return partial(open_orbax, folder), []
    order = _ordered(folder)
    if not order:
        return None
    first = order[0]
    if first == AGGREGATE:
        return partial(open_orbax, folder), order[1:]
    if first.endswith(".index.json"):
        return partial(open_index, folder / first), [name for name in order[1:] if not NUMBERED.fullmatch(name)]
    if NUMBERED.fullmatch(first):
        return partial(open_numbered, folder / first), [name for name in order[1:] if _series(name) != _series(first)]
    return partial(open_file, folder / first), order[1:]


def _ordered(folder: Path) -> list[str]:
    """Return names of what may be checkpoints, the one to be read first."""
    ranked = []
    for path in _listed(folder):
        rank = next((rank for rank, pattern in enumerate(ORDER) if re.fullmatch(pattern, path.name)), None)
        if rank is not None and not NOT_WEIGHTS.fullmatch(path.name) and not path.is_dir():
            largest_first = [-int(digits[:18]) for digits in re.findall(r"\d+", path.name)]
            ranked.append((rank, largest_first, path.name))
    return [name for _, _, name in sorted(ranked)]


def _series(name: str) -> tuple[str, ...]:
    """Return what the files of one numbered series have in common."""
    match = NUMBERED.fullmatch(name)
    return match.group("stem", "total", "suffix") if match else ()


def _listed(folder: Path) -> list[Path]:
    try:
        paths = []
        for path in folder.iterdir():
            paths.append(path)
            if len(paths) > MOST_ENTRIES:
                raise CheckpointError(f"has more than {MOST_ENTRIES:,} entries; pass the file", path=folder)
    except OSError as error:
        raise CheckpointError(f"cannot be listed: {error.strerror or error}", path=folder) from error
    return paths


def _with_checkpoint(folder: Path, depth: int) -> Iterator[Path]:
    """Yield folders below that hold a checkpoint; what lies in these belongs to it."""
    with suppress(OSError, CheckpointError):
        for path in sorted(_listed(folder)):
            if not path.is_dir() or path.name.startswith(".") or UNFINISHED in path.name:
                continue
            if _has_checkpoint(path):
                yield path
            elif depth > 1:
                yield from _with_checkpoint(path, depth - 1)


def _steps(name: str) -> list[int]:
    return [int(digits[:18]) for digits in STEP.findall(name)]


def _has_checkpoint(folder: Path) -> bool:
    with suppress(OSError, CheckpointError):
        return _opener(folder) is not None
    return False


def _described(store: TensorStore, folder: Path, note: tuple[str, ...]) -> TensorStore:
    config, problems = read_config(folder)
    return replace(store, config=config, problems=(*note, *store.problems, *problems))
