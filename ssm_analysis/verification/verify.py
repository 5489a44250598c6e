"""The one `verify`: stability proved, refuted with a witness, or honestly undecided; for systems, layers and checkpoints."""

import os
from collections.abc import Mapping, Sequence
from typing import TypeGuard, Unpack, overload

from ssm_analysis.certificates.certificate import Certificate
from ssm_analysis.certificates.question import DTYPES, Question, listed
from ssm_analysis.checkpoint.containers.in_memory import is_module
from ssm_analysis.checkpoint.loading import Source, find_layers
from ssm_analysis.checkpoint.read_options import ReadKeywords, ReadOptions
from ssm_analysis.families import Layer
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.verification.checkpoints import Bound, Verification, verify_layers
from ssm_analysis.verification.subjects import Norm, certify

SYSTEMS = (DiagonalSSM, RealDiagonalSSM, StateSpace)


@overload
def verify(  # pyright: ignore[reportOverlappingOverload]  # a live module, in `Source`, is Any to those without torch
    subject: Layer | LTI,
    *,
    norm: Norm | None = ...,
    input_radius: float | None = ...,
    hinf_below: float | None = ...,
    l1_below: float | None = ...,
    dtypes: Sequence[str] = ...,
    effort: str = ...,
    seed: int = ...,
) -> list[Certificate]: ...
@overload
def verify(
    subject: Source,
    *,
    norm: Norm | Mapping[str, Norm] | None = ...,
    input_radius: float | None = ...,
    hinf_below: float | None = ...,
    l1_below: float | None = ...,
    dtypes: Sequence[str] = ...,
    effort: str = ...,
    seed: int = ...,
    **read: Unpack[ReadKeywords],
) -> Verification: ...
def verify(
    subject: Layer | LTI | Source,
    *,
    norm: Norm | Mapping[str, Norm] | None = None,
    input_radius: float | None = None,
    hinf_below: float | None = None,
    l1_below: float | None = None,
    dtypes: Sequence[str] = DTYPES,
    effort: str = "tight",
    seed: int = 0,
    **read: Unpack[ReadKeywords],
) -> list[Certificate] | Verification:
    """Certify stability: one certificate for each property, a list for a layer or system, a dictionary of lists for several layers.

    ``proved`` only by a theorem whose hypotheses were checked with all rounding counted, ``refuted`` only with a witness that
    replays in another implementation, else ``undecided`` with the reason. As-defined properties are about real numbers,
    ``pole_inside`` and ``no_overflow`` about what a floating-point type makes of them.

    Parameters
    ----------
    subject
        A layer, a time-invariant system or batch of them, layers by name, or what `load` takes: a path, a state dict, a live module.
    norm
        The norm that stands in front of the layer and thereby bounds its input: an `RMSNorm` or `LayerNorm`; for several layers one
        for all, or by name. In a checkpoint the norm is found in the file, where it stands in a place that its model is known for; one
        that is given here stands before it.
    input_radius
        A bound of the 2-norm of the input of the layer at every token, in the place of a norm.
    hinf_below, l1_below
        Gains to stay below, for time-invariant subjects; each adds a certificate.
    dtypes
        Types that the layer is executed in: ``fp32``, ``bf16``, ``fp16``, or numpy's names of them.
    effort
        ``fast``: bounds factor by factor, and balls for small matrices only; ``tight``: joint bounds of the state; ``witness``: also a
        search for the worst input, for two-sided numbers.
    seed
        Random seed of the witness search.
    **read
        ``family``, ``assume``, ``config`` and ``layouts``, of a checkpoint; see `ReadOptions`.

    Returns
    -------
    list or Verification
        Certificates of one subject, or by layer.

    Raises
    ------
    TypeError
        If the subject or a norm is of another type.
    ValueError
        If an option is out of its range, ``norm`` names a layer that there is not, or the checkpoint cannot be read.

    Examples
    --------
    >>> import ssm_analysis as ssm
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.asarray([-1e-18]), B=one, C=one, D=0 * one)  # its pole rounds to 1
    >>> found = {c.property: c.verdict for c in ssm.verify(sys, dtypes=["float32"])}
    >>> found["asymptotic_stability"], found["pole_inside:fp32"]
    ('proved', 'refuted')
    >>> layer = ssm.FAMILIES["lru"].init(d_model=2, d_state=4)
    >>> {name: certificates[0].verdict for name, certificates in ssm.verify(dict(layer.params)).items()}
    {'': 'proved'}
    """
    question = Question(hinf_below=hinf_below, l1_below=l1_below, dtypes=dtypes, effort=effort, seed=seed)
    if isinstance(subject, (Layer, *SYSTEMS)):
        if read:
            raise TypeError(f"{listed(list(read))} say how a checkpoint is read; {type(subject).__name__} is none")
        if isinstance(norm, Mapping):
            raise TypeError("norm is a dictionary only where the subject is one; give the norm itself")
        return certify(subject, question, norm=norm, input_radius=input_radius)
    bound = Bound(norm=norm, input_radius=input_radius)
    if _are_layers(subject):
        return _of_layers(subject, question, bound)
    if not isinstance(subject, str | os.PathLike | Mapping) and not is_module(subject):
        raise TypeError(
            "verify takes a Layer, a DiagonalSSM, RealDiagonalSSM or StateSpace, a dictionary of layers, or what load takes: a path, a "
            f"state dict or a torch.nn.Module; got {type(subject).__name__}"
        )
    with find_layers(subject, ReadOptions(**read)) as checkpoint:
        return verify_layers(checkpoint, question, bound)


def _of_layers(layers: Mapping[str, Layer], question: Question, bound: Bound) -> Verification:
    bound.check_names(list(layers))
    verification = Verification(description=f"{len(layers)} layers in memory", problems=())
    for name, layer in layers.items():
        norm = bound.norm_of(name)
        verification[name] = certify(layer, question, norm=norm, input_radius=None if norm is not None else bound.input_radius)
    return verification


def _are_layers(subject: object) -> TypeGuard[Mapping[str, Layer]]:
    """Return whether the subject is a mapping of layers, and not of arrays."""
    return isinstance(subject, Mapping) and all(isinstance(value, Layer) for value in subject.values())
