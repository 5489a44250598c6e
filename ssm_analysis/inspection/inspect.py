"""One row for each recurrent layer of a checkpoint, with what is wrong with it, layer by layer in bounded memory."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from itertools import chain
from typing import Unpack

import numpy as np

from ssm_analysis.checkpoint.loading import FoundLayers, Source, find_layers
from ssm_analysis.checkpoint.read_options import ReadKeywords, ReadOptions
from ssm_analysis.checkpoint.recognition import Group
from ssm_analysis.checkpoint.store import CheckpointError
from ssm_analysis.families.base import Layer
from ssm_analysis.families.shared.layouts import REVERSE
from ssm_analysis.inspection.doctor import as_data, findings, findings_of_tensors
from ssm_analysis.inspection.examined import examine
from ssm_analysis.inspection.rows import Row, Rows, row_of

Progress = Callable[[int, int], None]
"""Called with the number of groups that are done, and of all."""


def inspect(
    source: Source,
    *,
    norms: bool = True,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **read: Unpack[ReadKeywords],
) -> Rows:
    """Return one row of plain data for each recurrent layer: ``ssm.inspect(path).to_frame()``.

    Parameters
    ----------
    source
        A checkpoint or a live module, as for `load`.
    norms
        Whether horizon, effective order and H-infinity norm are computed: most of the time for time-invariant layers.
    executor
        Where layers are inspected side by side, each by a process that opens the checkpoint itself; takes paths only. None: one
        after the other.
    progress
        Called with the number of layers that are done and of all.
    **read
        ``family``, ``assume``, ``config`` and ``layouts``; see `ReadOptions`.

    Returns
    -------
    Rows
        A list of rows in depth order: "name", "family", "layout", "dtype", sizes ("systems", "states", "inputs", "outputs"), what the
        eigenvalues belong to ("poles_of"), "abs_min", "abs_median", "abs_max", "margin" 1 - |lambda|, "time_constant_median" and
        "time_constant_max" (tokens), the verdict of Lemma 2.2 ("memory"), "horizon" (tokens), "effective_order", "hinf_norm",
        "assumptions", "notes" and "findings". A layer that cannot be read has its "error" and what is known without reading.
        ``problems`` says what is missing or was left out of the checkpoint as a whole.

    Raises
    ------
    CheckpointError, ValueError
        As `load`, for the checkpoint as a whole; what is wrong with one layer stands in its row.

    Examples
    --------
    >>> import ssm_analysis as ssm
    >>> layer = ssm.FAMILIES["lru"].init(d_model=4, d_state=8, r_min=0.99, r_max=0.999)
    >>> (row,) = ssm.inspect(dict(layer.params))
    >>> row["family"], row["states"], row["memory"]
    ('lru', 8, 'medium')
    """
    how = ReadOptions(**read)
    with find_layers(source, how) as layers:
        count = len(layers.groups)
        if executor is None:
            rows = (rows_of_group(layers, group, norms=norms) for group in layers.groups)
        else:
            if not isinstance(source, str | os.PathLike):
                raise TypeError(f"with an executor source must be a path, which every process opens itself, got {type(source).__name__}")
            one = partial(_in_a_process, source, how=how, norms=norms)
            rows = executor.map(one, range(count))
        counted = chain.from_iterable(_counted(rows, count, progress))
        return Rows(counted, description=layers.store.description, problems=layers.problems)


def rows_of_group(layers: FoundLayers, group: Group, *, norms: bool) -> list[Row]:
    """Return the rows of one layer, or of the two directions of a bidirectional one; what fails is said in the row."""
    dtypes = {layers.store.dtypes[name] for name in group.stored.values()}
    dtype = "/".join(sorted(kind for kind in dtypes if "int" not in kind))  # lengths are integers
    stored = {"name": group.name, "family": group.layout.family, "layout": group.layout.title, "dtype": dtype}
    try:
        with np.errstate(all="ignore"):  # of absurd numbers, which the findings name
            return [_row(layer, stored, norms=norms) for layer in layers.read(group)]
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:  # damaged, or an eigenvalue problem without an answer
        return [{**stored, "error": str(error), "findings": _damage(layers, group)}]


def _row(layer: Layer, stored: Row, *, norms: bool) -> Row:
    examined = examine(layer)
    row = row_of(examined, layout=stored["layout"], dtype=stored["dtype"], norms=norms)
    tensors = {name: x for name, x in examined.layer.params.items() if not (name == "D" and layer.name.endswith(REVERSE))}
    return {**row, "findings": as_data(chain(findings_of_tensors(layer.name, tensors), findings(examined.layer, examined.poles)))}


def _damage(layers: FoundLayers, group: Group) -> list[Row]:
    """Return what is wrong with the tensors of a layer that could not be built, as far as they can be read."""
    out: list[Row] = []
    for leaf, name in group.stored.items():
        try:
            tensor = layers.store.read(name)
        except CheckpointError as error:
            out.append({"layer": group.name, "severity": "error", "code": "unreadable", "message": str(error)})
            continue
        out += as_data(findings_of_tensors(group.name, {leaf: tensor}))
    return out


def _counted(rows: Iterator[list[Row]], count: int, progress: Progress | None) -> Iterator[list[Row]]:
    for done, some in enumerate(rows, start=1):
        yield some
        if progress is not None:
            progress(done, count)


def _in_a_process(source: str | os.PathLike[str], index: int, *, norms: bool, how: ReadOptions) -> list[Row]:
    with find_layers(source, how) as layers:
        return rows_of_group(layers, layers.groups[index], norms=norms)
