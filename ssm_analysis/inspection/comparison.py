"""Two checkpoints of one model beside each other: which tensors never moved, and where the eigenvalues went."""

from typing import Unpack

import numpy as np

from ssm_analysis.checkpoint.loading import FoundLayers, Source, find_layers
from ssm_analysis.checkpoint.read_options import ReadKeywords, ReadOptions
from ssm_analysis.checkpoint.recognition import Group
from ssm_analysis.checkpoint.store import CheckpointError
from ssm_analysis.families.base import Layer
from ssm_analysis.inspection.examined import examine
from ssm_analysis.inspection.poles_of_layers import LayerPoles
from ssm_analysis.inspection.rows import Row, Rows


def compare(source: Source, against: Source, **read: Unpack[ReadKeywords]) -> Rows:
    """Tell how each layer of ``source`` differs from the layer of the same name in ``against``, an earlier or another checkpoint.

    Parameters
    ----------
    source, against
        Two checkpoints of one model, as for `load`.
    **read
        ``family``, ``assume``, ``config`` and ``layouts``, for both; see `ReadOptions`.

    Returns
    -------
    Rows
        A row for each layer of either: "name"; "unchanged" tensors, equal in every entry; "changes", for the others
        ||new - old|| / ||old||; "time_constant_max" now and "time_constant_max_against" (tokens); "largest_move" of an eigenvalue,
        relative to its decay rate; and "findings". A layer that stands in one of the two alone has a finding and no numbers.

    Raises
    ------
    CheckpointError, ValueError
        As `load`.
    """
    how = ReadOptions(**read)
    with find_layers(source, how) as new, find_layers(against, how) as old:
        old_groups = {group.name: group for group in old.groups}
        rows: list[Row] = []
        for group in new.groups:
            if group.name not in old_groups:
                rows.append(
                    {"name": group.name, "findings": [_finding(group.name, "warning", "only-here", "is not in the other checkpoint")]}
                )
                continue
            rows += _both(group.name, _read(new, group), _read(old, old_groups.pop(group.name)))
    rows += [
        {"name": name, "findings": [_finding(name, "warning", "missing-here", "is in the other checkpoint alone")]} for name in old_groups
    ]
    return Rows(rows, description=f"{new.store.description}, against {old.store.description}", problems=(*new.problems, *old.problems))


def _read(layers: FoundLayers, group: Group) -> list[Layer] | CheckpointError:
    try:
        return layers.read(group)
    except CheckpointError as error:
        return error


def _both(name: str, new: list[Layer] | CheckpointError, old: list[Layer] | CheckpointError) -> list[Row]:
    errors = [str(read) for read in (new, old) if isinstance(read, CheckpointError)]
    if isinstance(new, CheckpointError) or isinstance(old, CheckpointError):
        return [{"name": name, "error": "; ".join(errors), "findings": []}]
    pairs = {layer.name: layer for layer in old}
    return [_row(layer, pairs[layer.name]) for layer in new if layer.name in pairs]


def _row(new: Layer, old: Layer) -> Row:
    after, before = examine(new), examine(old)
    p, q = after.layer.params, before.layer.params
    same_shape = [name for name in p if name in q and p[name].shape == q[name].shape]
    unchanged = [name for name in same_shape if np.array_equal(p[name], q[name])]
    changes = {name: _relative(p[name], q[name]) for name in same_shape if name not in unchanged}
    findings = []
    others = [name for name in (*p, *q) if name not in same_shape]
    if others:
        findings.append(
            _finding(new.name, "warning", "other-shapes", f"differ in shape or are in one alone: {', '.join(dict.fromkeys(others))}")
        )
    if unchanged and changes:
        findings.append(_finding(new.name, "warning", "never-moved", f"the same in both, though others moved: {', '.join(unchanged)}"))
    if unchanged and not changes:
        findings.append(_finding(new.name, "note", "identical", "every tensor is the same in both"))
    return {
        "name": new.name,
        "family": new.family,
        "unchanged": unchanged,
        "changes": changes,
        "time_constant_max": _slowest(after.poles),
        "time_constant_max_against": _slowest(before.poles),
        "largest_move": _largest_move(after.poles, before.poles),
        "findings": findings,
    }


def _relative(new: np.ndarray, old: np.ndarray) -> float:
    size = float(np.linalg.norm(old.reshape(-1)))
    change = float(np.linalg.norm((new - old).reshape(-1)))
    return change / size if size else float("inf")


def _slowest(poles: LayerPoles) -> float:
    least = float(np.min(poles.rates))
    return float("inf") if least <= 0 else 1 / least


def _largest_move(new: LayerPoles, old: LayerPoles) -> float | None:
    """Return the largest move of one eigenvalue, |mu_new - mu_old| / |Re mu_old|; None where they cannot be told or paired."""
    if not (new.trusted and old.trusted) or new.log_poles.shape != old.log_poles.shape:
        return None
    decay = np.abs(np.real(old.log_poles))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.nanmax(np.abs(new.log_poles - old.log_poles) / decay))


def _finding(layer: str, severity: str, code: str, message: str) -> dict[str, str]:
    return {"layer": layer, "severity": severity, "code": code, "message": message}
