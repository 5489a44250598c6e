"""What the tests of certificates of selective layers share."""

import numpy as np

from ssm_analysis import verify
from ssm_analysis.certificates import LayerNorm, RMSNorm
from ssm_analysis.certificates.input_set import input_set
from ssm_analysis.certificates.question import Inquiry, Question
from tests.support.families_table import d_model

BITS = 200


def by_property(layer, **options):
    return {c.property: c for c in verify(layer, **options)}


def verdicts(layer, **options):
    return {name: c.verdict for name, c in by_property(layer, **options).items()}


def a_norm(layer, kind, rng):
    width = d_model(layer)
    weight = 1 + 0.3 * rng.standard_normal(width)
    return RMSNorm(weight=weight) if kind == "rms" else LayerNorm(weight=weight, bias=0.3 * rng.standard_normal(width))


def asked(layer, norm, effort="tight"):
    inputs = input_set(norm, None, d_model(layer))
    return Inquiry(question=Question(dtypes=("fp32",), effort=effort), subject=layer, name="layer", inputs=inputs)


def adversaries(inputs, rng, *, length=24):
    """Documents on the boundary of the input set: random, constant, alternating, and along single features."""
    d = len(inputs.weight)
    directions = [rng.standard_normal((length, d)), np.tile(rng.standard_normal(d), (length, 1)), np.sign(rng.standard_normal((length, d)))]
    directions += [np.tile(rng.standard_normal(d), (length, 1)) * (-1.0) ** np.arange(length)[:, None]]
    directions += [np.tile(s * np.eye(d)[i] + 1e-9, (length, 1)) for i in range(d) for s in (1.0, -1.0)]
    return [inputs.token(x) for x in directions] + [inputs.bias + 0.01 * (inputs.token(directions[0]) - inputs.bias)]


def states(layer, u):
    along = layer.along(u)
    drive = along.B[..., 0] * layer.core_input(u)
    h, out = 0.0, []
    for pole, x in zip(np.broadcast_to(np.exp(along.log_poles), drive.shape), drive, strict=True):
        h = pole * h + x
        out.append(h)
    return np.stack(out), along
