"""S4D in every layout, against the kernels that the original code writes down mode by mode."""

import numpy as np
import pytest

from ssm_analysis.checkpoint import CheckpointError
from ssm_analysis.checkpoint.loading import load
from tests.support.layout_cases import TRANSFORMS, Case, assert_reads, complex_of

H, N, L = 4, 3, 18


def kernels(A, B, C, step, disc, *, length=L):
    """(channels, H, L) of K[l] = 2 Re sum_n C_n B_n (...) A_d^l, and of DSS without the factor 2; A, B (S, n), step (H, 1 or n)."""
    A, B = np.resize(A, (H, N)), np.resize(B, (H, N))
    x, later = step * A, np.arange(length)
    if disc == "zoh":
        return np.sum(2 * (C * B * (np.exp(x) - 1) / A)[..., None] * np.exp(x[..., None] * later), axis=-2).real
    if disc == "bilinear":
        return np.sum(2 * (C * B * step / (1 - x / 2))[..., None] * ((1 + x / 2) / (1 - x / 2))[..., None] ** later, axis=-2).real
    grows = A.real > 0  # such modes are counted from the end
    decaying = np.where(grows, -x, x)
    S = np.exp(x[..., None] * (later - np.where(grows, length - 1, 0)[..., None]))
    r = (np.exp(decaying * length) - 1) * A
    return np.sum((C * B * (np.exp(decaying) - 1) * np.conj(r) / (np.abs(r) ** 2 + 1e-7))[..., None] * S, axis=-2).real


def random(*shape):
    return np.random.default_rng(len(shape) * 100 + sum(shape)).standard_normal(shape)


def heard(said, step, frequency):
    """The modes that bandlimit keeps."""
    if "bandlimit" not in said:
        return 1
    kept = step * np.abs(np.resize(frequency, (H, N))) / (2 * np.pi) < said["bandlimit"] / 2
    assert 0 < np.sum(kept) < kept.size
    return kept


def stored(prefix, tensors, D, made, assume):
    return Case(tensors={**{f"block.{prefix}{n}": x for n, x in tensors.items()}, "block.D": D}, kernels=made, D=D, assume=assume)


def v4(*, S=2, channels=1, outputs=None, steps=1, disc="zoh", dt="exp", real="exp", imag="none", is_real=False, **said):
    last = () if is_real else (2,)
    t = {
        "inv_dt": 0.5 * random(H, steps) - (2.0 if dt == "exp" else -0.6), "A_real": 0.3 * random(S, N) + 0.5,
        "A_imag": np.abs(2 * random(S, N)), "B": random(1, S, N, *last), "C": random(channels, H, N, *last),
    }  # fmt: skip
    A, B, C = -TRANSFORMS[real](t["A_real"]) + 0j, t["B"][0] + 0j, t["C"] + 0j
    if is_real:
        del t["A_imag"]
    else:
        A, B, C = A - 1j * TRANSFORMS[imag](t["A_imag"]), complex_of(t["B"])[0], complex_of(t["C"])
    step = TRANSFORMS[dt](np.sinh(t["inv_dt"]) if said.get("dt_fast") else t["inv_dt"])
    said |= {"dt_transform": dt, "real_transform": real, "imag_transform": imag, "disc": disc} | ({"l_max": L} if disc == "dss" else {})
    made = kernels(A, B, C * heard(said, step, A.imag), step, disc)
    return stored("kernel.", t, random(outputs or channels, H), made, said)


def v3(*, S=2, channels=1, outputs=None, disc=None, real="exp", **said):
    t = {
        "log_dt": 0.5 * random(H) - 2, "inv_A_real": 0.3 * random(S, N) + 0.5, "A_imag": -np.abs(random(S, N)), "B": random(S, N, 2),
        "C": random(channels, H, N, 2), "A": 9 + random(S, N, 2),
    }  # fmt: skip
    A, step = -TRANSFORMS[real](t["inv_A_real"]) + 1j * t["A_imag"], np.exp(t["log_dt"])[:, None]
    made = kernels(A, complex_of(t["B"]), complex_of(t["C"]) * heard(said, step, A.imag), step, disc or "bilinear")
    said |= {"real_transform": real} | ({"disc": disc} if disc else {}) | ({"l_max": L} if disc == "dss" else {})
    return stored("kernel.kernel.", t, random(outputs or channels, H), made, said)


def v21(*, S=2, channels=1, outputs=None, disc=None):
    t = {"log_dt": 0.5 * random(H) - 2, "C": random(channels, H, N, 2)}
    if disc == "dss":
        t["w"] = random(S, N, 2)
        A = complex_of(t["w"])
        assert np.any(A.real > 0)
    else:
        t |= {"log_w_real": 0.3 * random(S, N), "w_imag": random(S, N)}
        A = -np.exp(t["log_w_real"]) + 1j * t["w_imag"]
    made = kernels(A, np.ones_like(A), complex_of(t["C"]), np.exp(t["log_dt"])[:, None], disc or "bilinear")
    said = ({"disc": disc} if disc else {}) | ({"l_max": L} if disc == "dss" else {})
    return stored("kernel.kernel.", t, random(outputs or channels, H), made, said)


def minimal():
    t = {"log_dt": 0.5 * random(H) - 2, "C": random(H, N, 2), "log_A_real": 0.3 * random(H, N), "A_imag": random(H, N)}
    A = -np.exp(t["log_A_real"]) + 1j * t["A_imag"]
    made = kernels(A, np.ones_like(A), complex_of(t["C"])[None], np.exp(t["log_dt"])[:, None], "zoh")
    D = random(1, H)
    case = stored("kernel.", t, D, made, {})
    return Case(tensors={**case.tensors, "block.D": D[0], "block.output_linear.0.weight": random(8, 4, 1)}, kernels=made, D=D)


def annotated(*, features=H):
    t = {"A_re": random(N, H) - 1, "A_im": random(N, H), "B_re": random(N, H), "B_im": random(N, H), "C": random(N, H, 2)}
    t |= {"D": random(1, H), "log_step": 0.5 * random(1, H) - 2}
    t["A_re"][0, 0] = 0.3  # clipped
    A = (np.minimum(t["A_re"], -1e-4) + 1j * t["A_im"]).T
    made = kernels(A, np.ones_like(A), complex_of(t["C"]).T[None], np.exp(t["log_step"][0])[:, None], "zoh") / 2  # all modes, no factor 2
    if features == 1:
        t = {name: x[0, :1] if name in ("D", "log_step") else x[:, 0] for name, x in t.items()}
    D = t["D"].reshape(1, -1)
    return Case(tensors={f"params/layers_0/seq/{name}": x for name, x in t.items()}, kernels=made[:, :features], D=D)


CASES = {
    "v4": v4,
    "v4 bilinear": lambda: v4(disc="bilinear"),
    "v4 dss": lambda: v4(disc="dss"),
    "v4 dss, growing": lambda: v4(disc="dss", real="none", S=H, channels=2, outputs=1),
    "v4 one copy, two channels": lambda: v4(S=1, channels=2),
    "v4 two directions of two channels": lambda: v4(channels=4, outputs=2),
    "v4 steps of their own": lambda: v4(steps=N),
    "v4 softplus": lambda: v4(dt="softplus", real="softplus", imag="softplus"),
    "v4 relu": lambda: v4(dt="relu", real="relu", imag="relu", disc="bilinear"),
    "v4 sigmoid": lambda: v4(dt="sigmoid", real="sigmoid", imag="sigmoid"),
    "v4 none, exp": lambda: v4(dt="softplus", real="none", imag="exp"),
    "v4 dt_fast": lambda: v4(dt_fast=True, steps=N),
    "v4 bandlimit": lambda: v4(bandlimit=0.2),
    "v4 real": lambda: v4(is_real=True),
    "v4 real, bilinear, two directions": lambda: v4(is_real=True, disc="bilinear", channels=2, outputs=1, S=H),
    "v4 real, dss": lambda: v4(is_real=True, disc="dss", steps=N),
    "v3": v3,
    "v3 zoh": lambda: v3(disc="zoh", S=1),
    "v3 dss": lambda: v3(disc="dss"),
    "v3 relu": lambda: v3(real="relu"),
    "v3 sigmoid": lambda: v3(real="sigmoid", channels=2),
    "v3 two directions": lambda: v3(channels=2, outputs=1, S=H),
    "v3 bandlimit": lambda: v3(bandlimit=0.06),
    "v2.1": v21,
    "v2.1 zoh": lambda: v21(disc="zoh", S=1),
    "v2.1 dss": lambda: v21(disc="dss"),
    "v2.1 two directions": lambda: v21(channels=2, outputs=1),
    "minimal": minimal,
    "annotated-s4": annotated,
    "annotated-s4, one feature": lambda: annotated(features=1),
}


@pytest.mark.parametrize("name", CASES)
def test_the_original_kernel(name):
    layers = assert_reads(CASES[name](), L)
    assert all(layer.family == "s4d" for layer in layers.values())


KERNEL = "block.kernel.kernel."


@pytest.mark.parametrize(("make", "prefix"), [(v4, "block.kernel."), (v3, KERNEL), (v21, KERNEL), (minimal, "block.kernel.")])
def test_a_kernel_without_its_block_has_no_feed_through(make, prefix):
    case = make()
    alone = {name.removeprefix(prefix): x for name, x in case.tensors.items() if name.startswith(prefix)}
    layers = assert_reads(Case(tensors=alone, kernels=case.kernels, D=0 * case.D, assume=case.assume), L)
    assert "D is not stored and taken as 0" in layers[""].notes[0]


def test_the_kernel_of_dss_depends_on_its_length():
    case = v4(disc="dss")
    with pytest.raises(CheckpointError, match=r"which the weights do not tell: pass the length of the sequences, assume=\{'l_max': L\}"):
        load(case.tensors, assume={"disc": "dss"})
    (layer,) = load(case.tensors, assume=case.assume).values()
    assert layer.options.disc == "zoh"
    assert layer.assumptions["disc"].note == "'dss' from the caller is folded into the parameters"
    assert layer.notes == (f"the kernel of DSS for sequences of {L} tokens",)


def test_exp_and_softplus_give_different_steps():
    """Nothing in the weights tells which; upstream's code and its configuration files have different defaults."""
    tensors = v4().tensors
    (layer,) = load(tensors).values()
    assert (layer.assumptions["dt_transform"].value, layer.assumptions["dt_transform"].source) == ("exp", "original default")
    (other,) = load(tensors, assume={"dt_transform": "softplus"}).values()
    assert np.max(np.abs(layer.system().log_poles - other.system().log_poles)) > 1e-3


def test_discretizations_of_later_versions_are_refused():
    with pytest.raises(ValueError, match="disc must be one of 'zoh', 'bilinear', 'dss', got 'foh'"):
        load(v21().tensors, assume={"disc": "foh"})
    with pytest.raises(ValueError, match="disc must be one of 'dss', got 'zoh'"):
        load(v21(disc="dss").tensors, assume={"disc": "zoh"})
