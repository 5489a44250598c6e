r"""Blocks in a row, each behind a norm of its own: what is known of the whole from what is known of each.

    x_{l+1} = x_l + block_l(norm_l(x_l)).

Every norm puts what enters its block back into one ball, so the bounds of the blocks add up along the residual stream instead of
multiplying. Differences between two runs do multiply, and there each norm counts with 1 / sqrt(eps).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ssm_analysis.certificates.certificate import Certificate, Quantity
from ssm_analysis.certificates.formats import FORMATS
from ssm_analysis.certificates.input_set import LayerNorm, RMSNorm, input_set
from ssm_analysis.certificates.rounding import above, row_norms
from ssm_analysis.certificates.window import window_of

SUBJECT = "residual stream"
UNIT = "in units of the residual stream"
AROUND = "the residual stream is x + block(norm(x)) in every block, from a row of the embedding on, and nothing else is added to it"
FORMED = "the numbers are those of exact arithmetic: how a run rounds its sums is not counted"


@dataclass(frozen=True, eq=False, kw_only=True)
class Block:
    """One block behind its norm.

    Parameters
    ----------
    name
        Of its recurrent layer.
    output
        Upper bounds of what it adds to each coordinate of the residual stream.
    norm_weight
        Largest factor of the norm in front.
    eps
        Of that norm; 0 where the file does not say.
    """

    name: str
    output: Float[np.ndarray, " d_model"]
    norm_weight: float
    eps: float


def gated_output(
    *,
    scan: Float[np.ndarray, " d_inner"],
    gate_weight: Float[np.ndarray, "d_inner d_model"],
    gate_bias: Float[np.ndarray, " d_inner"],
    norm: RMSNorm | LayerNorm,
    out_weight: Float[np.ndarray, "d_model d_inner"],
    out_bias: Float[np.ndarray, " d_model"],
) -> Float[np.ndarray, " d_model"]:
    """Return sup |W_out (y silu(z)) + b| for |y| <= ``scan`` and z = W_z u + b_z linear in what the norm lets through (T3): Mamba."""
    inputs = input_set(norm, None, gate_weight.shape[1])
    assert inputs is not None
    n = len(gate_weight)
    gate = window_of(
        weight=gate_weight, bias=gate_bias, taps=np.ones((n, 1)), conv_bias=np.zeros(n), inputs=inputs, padding="causal"
    ).u.size()
    return above(np.abs(out_weight) @ above(scan * gate, 2) + np.abs(out_bias), n + 8)


def normalized_output(
    *,
    weight: Float[np.ndarray, " d_inner"],
    out_weight: Float[np.ndarray, "d_model d_inner"],
    out_bias: Float[np.ndarray, " d_model"],
) -> Float[np.ndarray, " d_model"]:
    """Return sup |W_out (weight v) + b| for ||v|| <= sqrt(d_inner), whatever the state: Mamba-2 with its gated norm behind the scan."""
    reach = above(row_norms(above(np.abs(out_weight * weight), 2)) * math.sqrt(len(weight)), 4)
    return above(reach + np.abs(out_bias), 4)


def composition_certificates(
    blocks: Sequence[Block], start: Float[np.ndarray, " d_model"], *, dtypes: Sequence[str], rms_floor: float | None = None
) -> list[Certificate]:
    """Return size of the residual stream, whether it fits the formats, and the gain of differences.

    Parameters
    ----------
    blocks
        In depth order.
    start
        Upper bounds of |x_0|, coordinate by coordinate.
    dtypes
        Formats of the residual stream.
    rms_floor
        A lower bound of the root mean square of what enters each norm, where one is known.

    Raises
    ------
    ValueError
        If ``rms_floor`` is not a positive number.
    """
    if rms_floor is not None and not 0 < rms_floor < math.inf:
        raise ValueError(
            f"rms_floor must be a positive number, a lower bound of the root mean square in front of each norm; got {rms_floor!r}"
        )
    stream = [start]
    for block in blocks:
        stream.append(above(stream[-1] + block.output, 1))
    largest = np.asarray([np.max(x) for x in stream])
    known = {
        "theorem": "residual",
        "rigor": "float with counted rounding",
        "assumptions": (AROUND, FORMED),
        "quantities": {"largest |x_i|": Quantity(lower=0.0, upper=float(largest[-1]), unit=UNIT)},
        "per_channel": {"after each block, upper": largest, "each block, upper": np.asarray([np.max(b.output) for b in blocks])},
    }
    if not np.all(np.isfinite(stream[-1])):
        first = next(block.name for block in blocks if not np.all(np.isfinite(block.output)))
        return undecided(dtypes, f"what the block of {first} adds has no finite bound: see bounded_output of that layer")
    return [
        Certificate(subject=SUBJECT, property="bounded_residual", verdict="proved", **known),
        *(_fits(dtype, float(largest[-1]), known) for dtype in dtypes),
        _incremental(blocks, rms_floor),
    ]


def undecided(dtypes: Sequence[str], reason: str) -> list[Certificate]:
    """Return the same answer for all properties of the whole."""
    return [Certificate(subject=SUBJECT, property=name, verdict="undecided", reason=reason) for name in composed(dtypes)]


def composed(dtypes: Sequence[str]) -> tuple[str, ...]:
    """Return the properties of the whole."""
    return ("bounded_residual", *(f"residual_fits:{dtype}" for dtype in dtypes), "incremental_gain")


def _fits(dtype: str, largest: float, known: Mapping[str, object]) -> Certificate:
    name, limit = f"residual_fits:{dtype}", FORMATS[dtype].largest
    if largest <= limit:
        return Certificate(subject=SUBJECT, property=name, verdict="proved", **known)  # type: ignore[arg-type]
    reason = f"the bounds of the blocks add up to {largest:.6g}, and the largest number of {dtype} is {limit:.6g}"
    return Certificate(subject=SUBJECT, property=name, verdict="undecided", reason=reason, **known)  # type: ignore[arg-type]


def _incremental(blocks: Sequence[Block], rms_floor: float | None) -> Certificate:
    """Return the norms' share of a Lipschitz constant: the largest factor of each over its smallest divisor."""
    divisors = [math.sqrt(block.eps + (rms_floor or 0.0) ** 2) for block in blocks]
    logs = [
        math.log10(block.norm_weight / d) if d > 0 and block.norm_weight > 0 else math.inf
        for block, d in zip(blocks, divisors, strict=True)
    ]
    if rms_floor is None:
        where, by = "near an input of size 0", "sqrt(eps)"
        more = " (a floor of the root mean square in front of the norms, rms_floor=, makes that smaller)"
    else:
        where, by, more = f"where the root mean square is {rms_floor:g} or more", "that floor", ""
    share = (
        f"10^{sum(logs):.1f} for the norms of {len(blocks)} blocks alone"
        if math.isfinite(sum(logs))
        else "the file does not say that eps, so there is no finite factor"
    )
    reason = (
        f"{where} each norm moves two inputs apart by its largest weight over {by}: {share}{more}; "
        "and no theorem here bounds how a layer whose matrices depend on its input answers a change of that input"
    )
    return Certificate(subject=SUBJECT, property="incremental_gain", verdict="undecided", reason=reason)
