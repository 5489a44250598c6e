"""Certificates for a whole model: the residual stream of a checkpoint whose blocks are recurrent layers alone."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from ssm_analysis.certificates import Certificate
from ssm_analysis.certificates.composition import Block, composition_certificates, gated_output, normalized_output, undecided
from ssm_analysis.certificates.formats import format_name
from ssm_analysis.certificates.question import DTYPES, Question
from ssm_analysis.checkpoint.loading import FoundLayers, Source, find_layers
from ssm_analysis.checkpoint.read_options import ReadKeywords, ReadOptions
from ssm_analysis.checkpoint.recognition import Group
from ssm_analysis.checkpoint.store import CheckpointError, TensorStore
from ssm_analysis.families import FAMILIES, Layer
from ssm_analysis.families.shared.facts import OutputGate
from ssm_analysis.verification.checkpoints import Bound, verify_layers
from ssm_analysis.verification.norm_in_front import norm_in_front

EMBEDDING = re.compile(r"(^|\.)(embeddings?|embed_tokens|wte)\.weight$")
OUTSIDE = re.compile(r"(^|\.)(embeddings?|embed_tokens|wte|norm_f|norm|final_layernorm|lm_head|head)\.(weight|bias|scale)$")
"""What may stand beside the blocks: the embedding, the last norm, the head."""
EPS = ("layer_norm_epsilon", "rms_norm_eps", "norm_epsilon", "layer_norm_eps")


class NotCoveredError(ValueError):
    """Why no theorem here says something about the model as a whole."""


def verify_composition(
    source: Source, *, dtypes: Sequence[str] = DTYPES, rms_floor: float | None = None, **read: Unpack[ReadKeywords]
) -> list[Certificate]:
    """Return bound x_{l+1} = x_l + block_l(norm_l(x_l)) for all inputs, and tell whether differences stay small.

    For stacks of Mamba, Falcon-Mamba and Mamba-2 blocks and nothing else; every other model is undecided, with what stands in the way.

    Parameters
    ----------
    source
        A checkpoint or a live module, as for `load`.
    dtypes
        Formats of the residual stream.
    rms_floor
        A lower bound of the root mean square of what enters each norm, where one is known.
    **read
        ``family``, ``assume``, ``config`` and ``layouts``; see `ReadOptions`.

    Returns
    -------
    list
        ``bounded_residual``, ``residual_fits:<dtype>`` and ``incremental_gain``.

    Raises
    ------
    CheckpointError, ValueError
        As `load`, or if ``rms_floor`` is not a positive number.
    """
    with find_layers(source, ReadOptions(**read)) as checkpoint:
        certificates = verify_layers(checkpoint, Question(dtypes=()), Bound())
        return compose(checkpoint, certificates, dtypes=dtypes, rms_floor=rms_floor)


def compose(
    checkpoint: FoundLayers, certificates: Mapping[str, Sequence[Certificate]], *, dtypes: Sequence[str], rms_floor: float | None
) -> list[Certificate]:
    """Compose the certificates of the layers of an open checkpoint to those of its residual stream; see `verify_composition`."""
    formats = [format_name(dtype) for dtype in dtypes]
    try:
        blocks, start = _stack(checkpoint, certificates)
    except (NotCoveredError, CheckpointError) as error:
        return undecided(formats, str(error))
    return composition_certificates(blocks, start, dtypes=formats, rms_floor=rms_floor)


def _stack(found: FoundLayers, certificates: Mapping[str, Sequence[Certificate]]) -> tuple[list[Block], np.ndarray]:
    names = {name.replace("/", "."): name for name in found.store.shapes}
    _nothing_else(found.groups, names)
    embeddings = [name for dotted, name in names.items() if EMBEDDING.search(dotted)]
    if len(embeddings) != 1:
        raise NotCoveredError(
            f"the residual stream starts at a row of the embedding, and the file has {len(embeddings)} tensors named like one"
        )
    start = np.max(np.abs(_finite(found.store, embeddings[0])), axis=0)
    blocks = [_block(found, group, names, certificates) for group in found.groups]
    if any(len(block.output) != len(start) for block in blocks):
        raise NotCoveredError(
            f"{embeddings[0]} has rows of {len(start)} numbers, the blocks write {sorted({len(b.output) for b in blocks})}"
        )
    return blocks, start


def _nothing_else(groups: Sequence[Group], names: Mapping[str, str]) -> None:
    """Raise unless every tensor belongs to the mixer or the norm of a block, or stands outside the blocks."""
    parents = [group.prefix.rstrip(".").rpartition(".")[0] for group in groups]
    inside = tuple(f"{parent}.{part}." for parent in parents for part in ("mixer", "norm"))
    rest = [dotted for dotted in names if not dotted.startswith(inside) and not OUTSIDE.search(dotted)]
    stack = {parent.rpartition(".")[0] for parent in parents}
    if len(stack) != 1 or not all(group.prefix.endswith("mixer.") for group in groups):
        raise NotCoveredError(
            "the recurrent layers are not the mixers of one stack of Mamba or Mamba-2 blocks: what attention, feed-forward or other parts "
            "add to the residual stream is not bounded by a theorem here"
        )
    if rest:
        raise NotCoveredError(
            f"{len(rest)} tensors belong to no recurrent layer, the first is {rest[0]}: what attention, feed-forward or other parts add to "
            "the residual stream is not bounded by a theorem here"
        )


def _block(found: FoundLayers, group: Group, names: Mapping[str, str], certificates: Mapping[str, Sequence[Certificate]]) -> Block:
    layers = found.read(group)
    norm = norm_in_front(found.store, group, layers[0])
    if norm is None:
        raise NotCoveredError(f"no norm was found in front of {group.name}")
    if len(layers) != 1:
        raise NotCoveredError(f"{group.name} reads in two directions, and how models join the two is not written in the weights")
    config = {**found.told(group), **found.config}
    eps = next((float(config[name]) for name in EPS if isinstance(config.get(name), int | float)), 0.0)
    leaves = {leaf: names.get(group.prefix + leaf) for leaf in ("out_proj.weight", "out_proj.bias", "norm.weight")}
    if leaves["out_proj.weight"] is None:
        raise NotCoveredError(f"{group.name} has no out_proj.weight")
    out_weight = _finite(found.store, leaves["out_proj.weight"])
    out_bias = np.zeros(len(out_weight)) if leaves["out_proj.bias"] is None else _finite(found.store, leaves["out_proj.bias"])
    if leaves["norm.weight"] is not None:
        if FAMILIES[layers[0].family].facts.norm_behind_gate != "norm.weight" or _switched_on(config, "norm_before_gate"):
            raise NotCoveredError(f"{group.name} has a norm of its own that is not the one behind the gate of Mamba-2")
        weight = _finite(found.store, leaves["norm.weight"])
        if weight.shape != (out_weight.shape[1],):
            raise NotCoveredError(
                f"{group.name} has a norm of {len(weight)} numbers in front of an out_proj that reads {out_weight.shape[1]}"
            )
        output = normalized_output(weight=weight, out_weight=out_weight, out_bias=out_bias)
    else:
        gate = _gate(layers[0])
        output = gated_output(
            scan=_scan(layers[0], certificates), gate_weight=gate.weight, gate_bias=gate.bias, norm=norm.norm,
            out_weight=out_weight, out_bias=out_bias,
        )  # fmt: skip
    return Block(name=group.name, output=output, norm_weight=float(np.max(np.abs(norm.norm.weight))), eps=eps)


def _scan(layer: Layer, certificates: Mapping[str, Sequence[Certificate]]) -> np.ndarray:
    """Return the bounds of what the scan returns, by channel."""
    bounded = next((c for c in certificates.get(layer.name, ()) if c.property == "bounded_output"), None)
    if bounded is None or bounded.verdict != "proved":
        raise NotCoveredError(
            f"bounded_output of {layer.name} is {bounded.verdict if bounded is not None else 'not among the certificates'}"
        )
    return bounded.per_channel["upper"]


def _gate(layer: Layer) -> OutputGate:
    """Return the gate behind the scan of a layer."""
    gate = FAMILIES[layer.family].facts.output_gate(layer.params, layer.options)
    if gate is None:
        raise NotCoveredError(f"how {layer.name} gates the output of its scan is not covered here")
    return gate


def _switched_on(config: Mapping[str, Any], name: str) -> bool:
    """Return whether a configuration, or the ``ssm_cfg`` in one of mamba_ssm, switches an option on."""
    inner = config.get("ssm_cfg")
    return bool(config.get(name) or (isinstance(inner, Mapping) and inner.get(name)))


def _finite(store: TensorStore, name: str) -> np.ndarray:
    x = store.read(name)
    if not np.all(np.isfinite(x)):
        raise NotCoveredError(f"NaN or infinite entries in {name!r}")
    return x
