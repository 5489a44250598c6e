"""Witnesses as plain data and back, so that a refutation in a report can be run again elsewhere.

Doubles survive JSON exactly. An input that repeats its tokens, as the constant ones do that drive a state to its target, is
stored as its different tokens and how often each comes. The layer of a witness is not stored: it is in the checkpoint, and the
certificate holds the sha256 of its parameters.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ssm_analysis.certificates.certificate import fingerprint
from ssm_analysis.certificates.subject import RecurrentLayer
from ssm_analysis.certificates.witness import Witness
from ssm_analysis.systems import DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.xp import to_numpy

SYSTEMS = {kind.__name__: kind for kind in (DiagonalSSM, RealDiagonalSSM, StateSpace)}


def stored_witness(witness: Witness) -> dict[str, Any]:
    """Return kind, description and all fields."""
    return {**witness.to_dict(), "fields": {name: _stored(value) for name, value in vars(witness).items()}}


def witness_of(data: Mapping[str, Any], *, layer: RecurrentLayer | None = None) -> Witness:
    """Return the witness of `stored_witness`, ready to replay.

    Parameters
    ----------
    data
        As it came from JSON.
    layer
        The layer that it is about; needed by those that hold an input.

    Raises
    ------
    ValueError
        If the kind is unknown, or the layer is missing or has other parameters than the one that was refuted.
    """
    kinds = {kind.kind: kind for kind in Witness.__subclasses__()}
    if data.get("kind") not in kinds:
        raise ValueError(f"the kind of a witness must be one of {', '.join(kinds)}; got {data.get('kind')!r}")
    return kinds[data["kind"]](**{name: _restored(value, layer) for name, value in data["fields"].items()})


def _stored(value: Any) -> Any:
    if isinstance(value, RecurrentLayer):
        return {"layer": value.name, "sha256": fingerprint(value)}
    if type(value).__name__ in SYSTEMS:
        fields = {name: _stored(to_numpy(getattr(value, name))) for name in value.AXES}
        return {"system": type(value).__name__, "dt": value.dt, **fields}
    if isinstance(value, np.ndarray):
        return _stored_array(value)
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, tuple):
        return {"tuple": [_stored(item) for item in value]}
    return value.item() if isinstance(value, np.generic) else value


def _stored_array(x: np.ndarray) -> dict[str, Any]:
    """Return runs of equal rows once."""
    new = np.any(x[1:] != x[:-1], axis=tuple(range(1, x.ndim)))
    starts = np.flatnonzero(np.concatenate([np.ones(min(len(x), 1), dtype=bool), new]))
    repeats, rows = np.diff(np.append(starts, len(x))), x[starts]
    if np.iscomplexobj(x):
        rows = np.stack([np.real(rows), np.imag(rows)], axis=-1)
    return {"dtype": "complex128" if np.iscomplexobj(x) else x.dtype.name, "repeats": repeats.tolist(), "rows": rows.tolist()}


def _restored(value: Any, layer: RecurrentLayer | None) -> Any:
    if not isinstance(value, dict):
        return value
    if "sha256" in value:
        if layer is None:
            raise ValueError(f"the witness is an input of the layer {value['layer']!r}: give layer=, as ssm_analysis.load reads it")
        if fingerprint(layer) != value["sha256"]:
            raise ValueError(f"the parameters of the layer {layer.name!r} are not those that the witness refutes: their sha256 differs")
        return layer
    if "system" in value:
        fields = {name: _restored(x, layer) for name, x in value.items() if name not in ("system", "dt")}
        return SYSTEMS[value["system"]](**fields, dt=value["dt"])
    if "complex" in value:
        return complex(*value["complex"])
    if "tuple" in value:
        return tuple(_restored(item, layer) for item in value["tuple"])
    rows = np.asarray(value["rows"], dtype=np.float64 if value["dtype"] == "complex128" else value["dtype"])
    rows = rows[..., 0] + 1j * rows[..., 1] if value["dtype"] == "complex128" else rows
    return np.repeat(rows, value["repeats"], axis=0)
