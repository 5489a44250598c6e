"""S4 in every layout, against the generating function that the original code inverts to get its kernel.

A kernel of L tokens is the inverse Fourier transform of C~ (I - A_d w)^{-1} B_d at the L-th roots of unity w; no C is recovered here.
"""

import numpy as np
import pytest

from ssm_analysis.checkpoint import CheckpointError
from ssm_analysis.checkpoint.loading import load
from tests.support.layout_cases import TRANSFORMS, Case, assert_reads, complex_of

H, N, L = 4, 3, 18


def conjugated(x):
    return np.concatenate([x, np.conj(x)], axis=-1)


def kernel(lam, P, Q, B, C, step, *, length, whole=conjugated):
    """(channels, L) of one feature, A = diag(lam) - sum_r P_r Q_r^*; ``length`` 0 where C is C itself."""
    lam, P, Q, B, C = (whole(x) for x in (lam, P, Q, B, C))
    A, one = np.diag(lam), np.eye(len(lam))
    for p, q in zip(P, Q, strict=True):
        A = A - np.outer(p, np.conj(q))
    step = np.diag(np.full(len(lam), whole(step) if np.size(step) > 1 else np.squeeze(step)))
    A_d, B_d = np.linalg.solve(one - step @ A / 2, one + step @ A / 2), np.linalg.solve(one - step @ A / 2, step @ B)
    if length:
        roots = np.exp(-2j * np.pi * np.arange(length) / length)
        return np.fft.ifft([C @ np.linalg.solve(one - w * A_d, B_d) for w in roots], axis=0).real.T[:, :L]
    return np.array([C @ np.linalg.matrix_power(A_d, k) @ B_d for k in range(L)]).real.T


def kernels(lam, P, Q, B, C, step, **how):
    """(channels, H, L); copies of the modes are dealt out in turn."""
    S = len(lam)
    return np.stack([kernel(lam[h % S], P[:, h % S], Q[:, h % S], B[h % S], C[:, h], step[h], **how) for h in range(H)], axis=1)


def random(*shape):
    return np.random.default_rng(len(shape) * 100 + sum(shape)).standard_normal(shape)


def prefixed(prefix, tensors, D):
    return {**{prefix + name: np.asarray(x) for name, x in tensors.items()}, "block.D": D}


def v4(*, S=2, rank=1, channels=1, outputs=None, steps=1, length=0, dt="exp", real="exp", imag="none", **said):
    t = {
        "inv_dt": 0.5 * random(H, steps) - (2.0 if dt == "exp" else -0.6), "A_real": 0.3 * random(S, N) + 0.5,
        "A_imag": np.abs(2 * random(S, N)), "B": random(1, S, N, 2), "C": random(channels, H, N, 2), "P": random(rank, S, N, 2),
        "l_kernel": np.array(length),
    }  # fmt: skip
    D = random(outputs or channels, H)
    lam = -TRANSFORMS[real](t["A_real"]) - 1j * TRANSFORMS[imag](t["A_imag"])
    step = TRANSFORMS[dt](np.sinh(t["inv_dt"]) if said.get("dt_fast") else t["inv_dt"])
    C, P = complex_of(t["C"]), complex_of(t["P"])
    if "bandlimit" in said:
        heard = step * np.abs(np.resize(lam.imag, (H, N))) / (2 * np.pi) < said["bandlimit"] / 2
        assert 0 < np.sum(heard) < heard.size
        C = C * heard
    return Case(
        tensors=prefixed("block.kernel.", t, D),
        kernels=kernels(lam, P, P, complex_of(t["B"])[0], C, step, length=length),
        D=D,
        assume={"dt_transform": dt, "real_transform": real, "imag_transform": imag, **said},
    )


def v3(*, S=2, rank=1, channels=1, outputs=None, length=L, real="exp", rate="inv_w_real", stored_length=None, **said):
    t = {
        "log_dt": 0.5 * random(H) - 2, rate: 0.3 * random(S, N) + 0.5, "w_imag": -np.abs(random(S, N)), "B": random(1, S, N, 2),
        "C": random(channels, H, N, 2), "P": random(rank, S, N, 2), "L": np.array(length if stored_length is None else stored_length),
    }  # fmt: skip
    D = random(outputs or channels, H)
    transform = (lambda x: np.maximum(x, 0)) if real == "relu" else TRANSFORMS[real]  # without the floor of version 4
    C, P, step = complex_of(t["C"]), complex_of(t["P"]), np.exp(np.sinh(t["log_dt"]) if said.get("fast_gate") else t["log_dt"])
    if "bandlimit" in said:
        heard = step[:, None] * np.abs(np.resize(t["w_imag"], (H, N))) / (2 * np.pi) < said["bandlimit"] / 2
        assert 0 < np.sum(heard) < heard.size
        C = C * heard
    return Case(
        tensors=prefixed("block.kernel.kernel.", t, D),
        kernels=kernels(-transform(t[rate]) + 1j * t["w_imag"], P, P, complex_of(t["B"])[0], C, step, length=length),
        D=D,
        assume=said if rate == "log_w_real" else {"real_transform": real, **said},
    )


def v2(*, hurwitz=False, S=H, rank=1, channels=1, outputs=None, length=L):
    t = {
        "log_dt": 0.5 * random(H) - 2, "B": random(1, S, N, 2), "C": random(channels, H, N, 2), "P": random(rank, S, N, 2),
        "omega": nodes(length), "z": np.zeros((length // 2 + 1, 2)),
    }  # fmt: skip
    P = Q = complex_of(t["P"])
    if hurwitz:
        t |= {"log_w_real": 0.3 * random(S, N), "w_imag": random(S, N)}
        lam = -np.exp(t["log_w_real"]) + 1j * t["w_imag"]
    else:
        t |= {"w": random(S, N, 2) - [3.0, 0.0], "Q": t["P"] * [1, -1] + 0.1 * random(rank, S, N, 2)}
        lam, Q = complex_of(t["w"]), np.conj(complex_of(t["Q"]))  # A = diag(w) - P Q^T
    D = random(outputs or channels, H)
    made = kernels(lam, P, Q, complex_of(t["B"])[0], complex_of(t["C"]), np.exp(t["log_dt"]), length=length)
    return Case(tensors=prefixed("block.kernel.kernel.", t, D), kernels=made, D=D)


def nodes(length):
    angle = -2 * np.pi * np.arange(length // 2 + 1) / length
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def v1(*, w=(N, 2), B=(H, 2, N, 2), length=L):
    t = {
        "log_dt": 0.5 * random(H) - 2, "w": random(*w) - [3.0, 0.0], "B": 0.5 * random(*B), "C": 0.5 * random(H, B[-3], N, 2),
        "nodes": nodes(length), "z": np.zeros((length // 2 + 1, 2)),
    }  # fmt: skip
    lam, C = np.broadcast_to(complex_of(t["w"]), (H, N)), complex_of(t["C"])
    B_and_P = np.broadcast_to(complex_of(t["B"]), C.shape)
    P, Q = np.moveaxis(B_and_P[:, 1:], 0, 1), np.moveaxis(C[:, 1:], 0, 1)
    made = kernels(lam, P, Q, B_and_P[:, 0], np.conj(C[None, :, 0]), np.exp(t["log_dt"]), length=length)
    D = random(1, H)
    return Case(tensors={**prefixed("block.kernel.krylov.", t, D), "block.D": D[0]}, kernels=made, D=D)


def annotated(*, features=H):
    """srush/annotated-s4: all N modes, features on axis 1, conj(C~) reads out; a bare S4Layer has no feature axis."""
    t = {
        "Lambda_re": random(N, H), "Lambda_im": random(N, H), "P": random(N, H) + 1j * random(N, H + 1)[:, :H],
        "B": random(N, H) - 1j * random(N, H), "C": random(N, H, 2), "D": random(1, H), "log_step": 0.5 * random(1, H) - 2,
    }  # fmt: skip
    t["Lambda_re"] = t["Lambda_re"] - 1
    t["Lambda_re"][0, 0] = 0.3  # growing modes are clipped
    lam = np.minimum(t["Lambda_re"], -1e-4).T + 1j * t["Lambda_im"].T
    C, step, P = np.conj(complex_of(t["C"])), np.exp(t["log_step"][0]), t["P"].T[None]
    made = kernels(lam, P, P, t["B"].T, C.T[None], step, length=L, whole=np.asarray)[:, :features]
    D = t["D"][:, :features]
    if features == 1:
        t = {name: x[0, :1] if name in ("D", "log_step") else x[:, 0] for name, x in t.items()}
    return Case(tensors={f"params/layers_0/seq/{name}": x for name, x in t.items()}, kernels=made, D=D, assume={"l_max": L})


V21 = {"rate": "log_w_real"}
CASES = {
    "v4 true C": v4,
    "v4 a length": lambda: v4(length=L),
    "v4 an odd length": lambda: v4(length=L + 3),
    "v4 rank 2": lambda: v4(rank=2, length=L),
    "v4 rank 3": lambda: v4(rank=3, length=L),
    "v4 one copy": lambda: v4(S=1, length=L),
    "v4 a copy each": lambda: v4(S=H, length=L),
    "v4 two channels": lambda: v4(channels=2, length=L),
    "v4 two directions": lambda: v4(channels=2, outputs=1, length=L),
    "v4 two directions of two channels": lambda: v4(channels=4, outputs=2),
    "v4 steps of their own": lambda: v4(steps=N, length=L),
    "v4 softplus": lambda: v4(dt="softplus", real="softplus", imag="softplus", length=L),
    "v4 relu": lambda: v4(dt="relu", real="relu", imag="relu", length=L),
    "v4 sigmoid": lambda: v4(dt="sigmoid", real="sigmoid", imag="sigmoid"),
    "v4 none, exp": lambda: v4(dt="softplus", real="none", imag="exp"),
    "v4 dt_fast": lambda: v4(dt_fast=True, length=L),
    "v4 bandlimit": lambda: v4(bandlimit=0.2, length=L),
    "v3": v3,
    "v3 true C": lambda: v3(length=0),
    "v3 relu": lambda: v3(real="relu", rank=2),
    "v3 softplus": lambda: v3(real="softplus", S=1),
    "v3 two directions": lambda: v3(channels=2, outputs=1),
    "v3 bandlimit": lambda: v3(bandlimit=0.06),
    "v2.1": lambda: v3(**V21),
    "v2.1 two directions, one copy": lambda: v3(S=1, channels=2, outputs=1, **V21),
    "v2.1 L zeroed by stepping": lambda: v3(stored_length=0, l_max=L, **V21),
    "v2.1 fast gate": lambda: v3(fast_gate=True, **V21),
    "v2": v2,
    "v2 rank 2": lambda: v2(rank=2, channels=2),
    "v2 tied": lambda: v2(S=1, channels=2, outputs=1),
    "v2 hurwitz": lambda: v2(hurwitz=True),
    "v2 hurwitz tied, rank 2": lambda: v2(hurwitz=True, S=1, rank=2),
    "v2 odd length": lambda: v2(length=L + 1),
    "v1": v1,
    "v1 a w each": lambda: v1(w=(H, N, 2)),
    "v1 one B": lambda: v1(B=(2, N, 2)),
    "v1 one B, a w each, rank 2": lambda: v1(w=(H, N, 2), B=(3, N, 2)),
    "annotated-s4": annotated,
    "annotated-s4, one feature": lambda: annotated(features=1),
}


@pytest.mark.parametrize("name", CASES)
def test_the_original_kernel(name):
    layers = assert_reads(CASES[name](), L)
    assert all(layer.family == "s4" for layer in layers.values())


@pytest.mark.parametrize(("make", "prefix"), [(v4, "block.kernel."), (v3, "block.kernel.kernel."), (v2, "block.kernel.kernel.")])
def test_a_kernel_without_its_block_has_no_feed_through(make, prefix):
    case = make()
    alone = {name.removeprefix(prefix): x for name, x in case.tensors.items() if name != "block.D"}
    layers = assert_reads(Case(tensors=alone, kernels=case.kernels, D=0 * case.D, assume=case.assume), L)
    assert "D is not stored and taken as 0" in layers[""].notes[0]


def test_a_length_of_one():
    """v2 begins with L = 1 where nobody says l_max, and doubles it as it goes: C~ = C (I - A_d)."""
    case = v2(length=1)
    (layer,) = load(case.tensors).values()
    t = {name.rsplit(".", 1)[-1]: x for name, x in case.tensors.items()}
    P, Q = complex_of(t["P"])[0, 0], np.conj(complex_of(t["Q"])[0, 0])
    A, one = np.diag(conjugated(complex_of(t["w"])[0])) - np.outer(conjugated(P), np.conj(conjugated(Q))), np.eye(2 * N)
    delta = np.exp(t["log_dt"][0])
    A_d = np.linalg.solve(one - delta * A / 2, one + delta * A / 2)
    stored = layer.params["C"][0, 0]
    np.testing.assert_allclose((conjugated(stored) @ (one - A_d))[:N], complex_of(t["C"])[0, 0], rtol=1e-10)


def test_what_only_the_caller_knows():
    case = annotated()
    with pytest.raises(CheckpointError, match=r"the sequence length of its training, in no file: pass it, assume=\{'l_max': L\}"):
        load(case.tensors)
    with pytest.raises(CheckpointError, match="must not be negative, got -1"):
        load(v4(length=-1 + 1).tensors | {"block.kernel.l_kernel": np.array(-1)})


def test_dplr_is_bilinear_whatever_disc_says():
    """The option is there in the original code and does nothing."""
    case = v4()
    (layer,) = load(case.tensors, assume={"disc": "zoh"}).values()
    assert layer.assumptions["disc"].value == "bilinear"
    assert layer.assumptions["disc"].note == "'zoh' from the caller has no effect here, as in the original code"
    assert not hasattr(layer.options, "disc")
