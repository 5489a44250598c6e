"""Certificates for layers, systems and whole checkpoints: every recurrent layer, with the norm that stands in front of it in the file."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ssm_analysis.certificates import Certificate, LayerNorm, RMSNorm
from ssm_analysis.certificates.question import PROPERTIES
from ssm_analysis.checkpoint.containers.in_memory import is_module
from ssm_analysis.checkpoint.loading import FoundLayers, Source, find_layers
from ssm_analysis.checkpoint.recognition import Group
from ssm_analysis.checkpoint.store import CheckpointError
from ssm_analysis.families.base import Layer
from ssm_analysis.families.shared.layouts import REVERSE, Layout
from ssm_analysis.systems import LTI
from ssm_analysis.verification.norm_in_front import NormInFile, norm_in_front
from ssm_analysis.verification.subjects import verify as verify_subject

DTYPES = ("fp32", "bf16", "fp16")
Norm = RMSNorm | LayerNorm
Progress = Callable[[int, int], None]
"""Called with the number of groups that are done, and of all."""


class Verification(dict[str, list[Certificate]]):
    """Certificates by layer, and what the checkpoint as a whole left to say.

    ``description`` says how it was read, ``problems`` what is missing, was left out, or only looks like a layer; ``unverified``
    are those of the problems that may mean a recurrent layer without a certificate.
    """

    def __init__(self, *, description: str, problems: Sequence[str], unverified: Sequence[str]) -> None:
        super().__init__()
        self.description = description
        self.problems = tuple(problems)
        self.unverified = tuple(unverified)


def verify(
    subject: Layer | LTI | Mapping[str, Any] | Source,
    *,
    norm: Norm | Mapping[str, Norm] | None = None,
    input_radius: float | None = None,
    hinf_below: float | None = None,
    l1_below: float | None = None,
    dtypes: Sequence[str] = DTYPES,
    effort: str = "tight",
    seed: int = 0,
) -> list[Certificate] | dict[str, list[Certificate]]:
    """Certificates of stability, one for each property: a list for a layer or system, a dictionary of lists for several layers.

    ``proved`` only by a theorem whose hypotheses were checked with all rounding counted, ``refuted`` only with a witness that
    replays in another implementation, else ``undecided`` with the reason. As-defined properties are about real numbers,
    ``pole_inside`` and ``no_overflow`` about what a floating-point type makes of them.

    Parameters
    ----------
    subject
        A layer, a time-invariant system or batch of them, layers by name, or what `load` takes: a path, a state dict, a live module.
    norm
        What stands in front of the layer and thereby bounds its input: an `RMSNorm` or `LayerNorm`; for several layers one for all,
        or by name. In a checkpoint the norm is found in the file, where it stands in a place that its model is known for; one that
        is given here stands before it.
    input_radius
        Instead of a norm: a bound of the 2-norm of the input of the layer at every token.
    hinf_below, l1_below
        Gains to stay below, for time-invariant subjects; each adds a certificate.
    dtypes
        Types that the layer is executed in: ``fp32``, ``bf16``, ``fp16``.
    effort
        ``fast``: bounds factor by factor, and balls for small matrices only; ``tight``: joint bounds of the state; ``witness``: also a
        search for the worst input, for two-sided numbers.
    seed
        Of the search.

    Raises
    ------
    TypeError
        If the subject or a norm is of another type.
    ValueError
        If an option is out of its range, ``norm`` names a layer that there is not, or the checkpoint cannot be read.

    Examples
    --------
    >>> import ssm_analysis as ssm
    >>> layer = ssm.FAMILIES["lru"].init(d_model=2, d_state=4)
    >>> {name: [c.verdict for c in found][:1] for name, found in ssm.verify(dict(layer.params)).items()}
    {'': ['proved']}
    """
    wanted = Wanted(hinf_below=hinf_below, l1_below=l1_below, dtypes=dtypes, effort=effort, seed=seed)
    if _is_checkpoint(subject):
        return verify_checkpoint(subject, norm=norm, input_radius=input_radius, wanted=wanted)
    return wanted.of(subject, norm=norm, input_radius=input_radius)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be certified, and how hard to try; see `verify`."""

    hinf_below: float | None = None
    l1_below: float | None = None
    dtypes: Sequence[str] = DTYPES
    effort: str = "tight"
    seed: int = 0

    def of(self, subject: Any, *, norm: Any, input_radius: float | None) -> Any:
        """The certificates of a layer, a system, or layers by name."""
        return verify_subject(
            subject, norm=norm, input_radius=input_radius, hinf_below=self.hinf_below, l1_below=self.l1_below,
            dtypes=self.dtypes, effort=self.effort, seed=self.seed,
        )  # fmt: skip

    @property
    def properties(self) -> tuple[str, ...]:
        """Names of the certificates of each layer."""
        executed = [f"{name}:{dtype}" for dtype in self.dtypes for name in ("pole_inside", "no_overflow")]
        gains = [name for name in ("hinf_below", "l1_below") if getattr(self, name) is not None]
        return (*PROPERTIES, *executed, *gains)

    def none(self, name: str, verdict: str, reason: str) -> list[Certificate]:
        """Of a layer that could not be read: the same answer for all properties."""
        return [Certificate(subject=f"layer {name!r}", property=asked, verdict=verdict, reason=reason) for asked in self.properties]


def verify_checkpoint(
    source: Source,
    *,
    family: str | None = None,
    assume: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    layouts: Sequence[Layout] = (),
    layer: str | None = None,
    norm: Norm | Mapping[str, Norm] | None = None,
    norm_name: str | None = None,
    input_radius: float | None = None,
    wanted: Wanted | None = None,
    progress: Progress | None = None,
) -> Verification:
    """`verify` for every recurrent layer of a checkpoint, one after the other in bounded memory.

    The norm in front of a layer, where the file has one in a place that its model is known for, bounds what can enter.

    Parameters
    ----------
    source, family, assume, config, layouts
        As `load`.
    layer
        This one alone.
    norm
        In the place of those in the file: one for all layers, or by name.
    norm_name
        What the norm beside each layer is called in this file, for models of one's own; see `norm_in_front`.
    input_radius
        Bound of the 2-norm of what enters a layer at a token, for layers without a norm.
    wanted
        Gains, formats, effort and seed; by default those of `verify`.
    progress
        Called with the number of layers that are done and of all.

    Returns
    -------
    Verification
        Certificates by the names that `load` gives. Those of a layer with damaged tensors, NaN or infinite numbers say "invalid",
        those of one that the file does not tell enough about "undecided".

    Raises
    ------
    CheckpointError, ValueError
        As `load`, for the checkpoint as a whole; and if an option is out of its range, found out before any work.
    KeyError
        If there is no such layer.
    """
    wanted = wanted or Wanted()
    _check(wanted, input_radius)
    with find_layers(source, family=family, assume=assume, config=config, layouts=layouts) as found:
        groups = _asked(found, layer)
        given = _given(norm, groups)
        certificates = Verification(description=found.store.description, problems=found.problems, unverified=_unverified(found))
        for done, group in enumerate(groups, start=1):
            certificates |= _of_group(found, group, wanted, given, norm_name, input_radius)
            if progress is not None:
                progress(done, len(groups))
    return certificates


def _of_group(
    found: FoundLayers,
    group: Group,
    wanted: Wanted,
    given: Callable[[str], Norm | None],
    norm_name: str | None,
    input_radius: float | None,
) -> dict[str, list[Certificate]]:
    try:
        layers = found.read(group)
    except CheckpointError as error:
        return {group.name: wanted.none(group.name, "invalid" if _damaged(found, group) else "undecided", str(error))}
    norms = {layer.name: given(layer.name) or given(group.name) for layer in layers}
    try:
        stored = norm_in_front(found.store, group, layers[0], name=norm_name) if None in norms.values() else None
    except ValueError as error:  # damaged, or NaN
        return {layer.name: wanted.none(layer.name, "invalid", str(error)) for layer in layers}
    return {layer.name: _of_layer(layer, norms[layer.name], stored, wanted, input_radius) for layer in layers}


def _of_layer(layer: Layer, norm: Norm | None, stored: NormInFile | None, wanted: Wanted, input_radius: float | None) -> list[Certificate]:
    if norm is not None or stored is None:
        return wanted.of(layer, norm=norm, input_radius=input_radius if norm is None else None)
    text = f"comes from a {type(stored.norm).__name__}"
    return [  # that this norm stands in front is known of the model and not written in its weights
        replace(c, assumptions=tuple(t.replace(text, f"{text}, {stored.place} of the checkpoint") for t in c.assumptions))
        for c in wanted.of(layer, norm=stored.norm, input_radius=None)
    ]


def _damaged(found: FoundLayers, group: Group) -> bool:
    """Whether it is the numbers that cannot be read or are none, and not what they mean."""
    try:
        return not all(np.all(np.isfinite(x)) for x in group.read(found.store).values())  # type: ignore[arg-type]
    except CheckpointError:
        return True


def _unverified(found: FoundLayers) -> list[str]:
    """What only looks like a layer, and missing files."""
    return [problem for problem in found.problems if problem not in found.store.problems or problem.startswith("missing")]


def _given(norm: Norm | Mapping[str, Norm] | None, groups: Sequence[Group]) -> Callable[[str], Norm | None]:
    if not isinstance(norm, Mapping):
        return lambda name: norm
    known = [group.name for group in groups]
    unknown = [name for name in norm if name.removesuffix(REVERSE) not in known]
    if unknown:
        raise ValueError(f"norm names layers that there are not: {', '.join(map(repr, unknown))}; there are {', '.join(map(repr, known))}")
    return norm.get


def _asked(found: FoundLayers, name: str | None) -> list[Group]:
    groups = [group for group in found.groups if name is None or group.name == name or group.name.startswith(f"{name}.")]
    if not groups:
        raise KeyError(f"no layer {name!r}; there are {', '.join(repr(group.name) for group in found.groups)}")
    return groups


def _check(wanted: Wanted, input_radius: float | None) -> None:
    """Before any work; that there are no layers does not keep `verify` from looking at its options."""
    wanted.of({}, norm=None, input_radius=None)
    if input_radius is not None and not 0 < input_radius < math.inf:
        raise ValueError(f"input_radius must be a positive number, a bound of the 2-norm of each token's input; got {input_radius!r}")


def _is_checkpoint(subject: object) -> bool:
    """Whether it is a path, a live module or a mapping of arrays, and not layers or a system."""
    if isinstance(subject, Mapping):
        return not all(isinstance(value, Layer) for value in subject.values())
    return isinstance(subject, str | os.PathLike) or is_module(subject)
