"""Certificates of every recurrent layer of an open checkpoint, with the norm that stands in front of it in the file."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssm_analysis.certificates.certificate import Certificate
from ssm_analysis.certificates.question import Question
from ssm_analysis.checkpoint.loading import FoundLayers
from ssm_analysis.checkpoint.problems import Problem
from ssm_analysis.checkpoint.recognition import Group
from ssm_analysis.checkpoint.store import CheckpointError
from ssm_analysis.families.shared.layouts import REVERSE
from ssm_analysis.verification.norm_in_front import norm_in_front
from ssm_analysis.verification.subjects import Norm, certify

Progress = Callable[[int, int], None]
"""Called with the number of groups that are done, and of all."""


class Verification(dict[str, list[Certificate]]):
    """Certificates by layer, and what the checkpoint as a whole left to say.

    ``description`` says how it was read, ``problems`` what is missing, was left out, or only looks like a layer; ``unverified``
    are those of the problems that may mean a recurrent layer without a certificate.
    """

    def __init__(self, *, description: str, problems: Sequence[Problem]) -> None:
        super().__init__()
        self.description = description
        self.problems = tuple(problems)

    @property
    def unverified(self) -> tuple[Problem, ...]:
        """The problems that may hide a layer."""
        return tuple(problem for problem in self.problems if problem.may_hide_a_layer)


@dataclass(frozen=True, eq=False, kw_only=True)
class Bound:
    """What bounds the input of the layers.

    Parameters
    ----------
    norm
        The norm in front: one for all layers, or by name; None: the one in the file.
    input_radius
        Bound of the 2-norm of what enters a layer without a norm at a token.
    norm_name
        What the norm beside each layer is called in this file, for models of one's own; see `norm_in_front`.

    Raises
    ------
    ValueError
        If the radius is not a positive number.
    """

    norm: Norm | Mapping[str, Norm] | None = None
    input_radius: float | None = None
    norm_name: str | None = None

    def __post_init__(self) -> None:
        if self.input_radius is not None and not 0 < self.input_radius < math.inf:
            raise ValueError(
                f"input_radius must be a positive number, a bound of the 2-norm of each token's input; got {self.input_radius!r}"
            )

    def norm_of(self, name: str) -> Norm | None:
        """Return the norm that the caller gave for a layer."""
        return self.norm.get(name) if isinstance(self.norm, Mapping) else self.norm

    def check_names(self, names: Sequence[str]) -> None:
        """Raise a ValueError if a norm is given for a layer that there is not."""
        if isinstance(self.norm, Mapping):
            unknown = [name for name in self.norm if name.removesuffix(REVERSE) not in names and name not in names]
            if unknown:
                there = ", ".join(map(repr, names))
                raise ValueError(f"norm names layers that there are not: {', '.join(map(repr, unknown))}; there are {there}")


def verify_layers(
    checkpoint: FoundLayers,
    question: Question,
    bound: Bound,
    *,
    layer: str | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Certify every recurrent layer of an open checkpoint, one after the other in bounded memory.

    Parameters
    ----------
    checkpoint
        An open checkpoint.
    question, bound
        What is asked of each layer, and what bounds its input.
    layer
        The name of one layer, or the beginning of names; None: all.
    progress
        Called with the number of layers that are done and of all.

    Returns
    -------
    Verification
        Certificates by the names that `load` gives. Those of a layer with damaged tensors, NaN or infinite numbers say "invalid",
        those of one that the file does not tell enough about "undecided".

    Raises
    ------
    KeyError
        If there is no such layer.
    ValueError
        If a norm is given for a layer that there is not.
    """
    groups = _groups_named(checkpoint, layer)
    bound.check_names([group.name for group in groups])
    verification = Verification(description=checkpoint.store.description, problems=checkpoint.problems)
    for done, group in enumerate(groups, start=1):
        verification.update(_of_group(checkpoint, group, question, bound))
        if progress is not None:
            progress(done, len(groups))
    return verification


def _of_group(checkpoint: FoundLayers, group: Group, question: Question, bound: Bound) -> dict[str, list[Certificate]]:
    try:
        layers = checkpoint.read(group)
    except CheckpointError as error:
        return {
            group.name: _same_answer(
                group.name, question, "invalid" if _damaged(checkpoint, group) else "undecided", str(error), str(error.__cause__ or error)
            )
        }
    norms = {layer.name: bound.norm_of(layer.name) or bound.norm_of(group.name) for layer in layers}
    try:
        stored = norm_in_front(checkpoint.store, group, layers[0], name=bound.norm_name) if None in norms.values() else None
    except ValueError as error:  # damaged, or NaN
        return {layer.name: _same_answer(layer.name, question, "invalid", str(error), "norm in front") for layer in layers}
    certificates = {}
    for layer in layers:
        norm = norms[layer.name]
        if norm is None and stored is not None:
            certificates[layer.name] = certify(layer, question, norm=stored.norm, norm_place=stored.place)
        else:
            certificates[layer.name] = certify(layer, question, norm=norm, input_radius=bound.input_radius if norm is None else None)
    return certificates


def _same_answer(name: str, question: Question, verdict: str, reason: str, cause: str) -> list[Certificate]:
    """Return the same answer for all properties of a layer that could not be read."""
    return [
        Certificate(subject=f"layer {name!r}", property=asked, verdict=verdict, reason=reason, cause=cause) for asked in question.properties
    ]


def _damaged(checkpoint: FoundLayers, group: Group) -> bool:
    """Return whether it is the numbers that cannot be read or are none, and not what they mean."""
    try:
        return not all(np.all(np.isfinite(x)) for x in group.read(checkpoint.store).values())
    except CheckpointError:
        return True


def _groups_named(checkpoint: FoundLayers, name: str | None) -> list[Group]:
    groups = [group for group in checkpoint.groups if name is None or group.name == name or group.name.startswith(f"{name}.")]
    if not groups:
        raise KeyError(f"no layer {name!r}; there are {', '.join(repr(group.name) for group in checkpoint.groups)}")
    return groups
