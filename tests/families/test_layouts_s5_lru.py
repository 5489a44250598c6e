"""S5 and LRU in every layout, against the recurrences of the original code, step by step."""

import numpy as np
import pytest

from ssm_analysis.checkpoint import CheckpointError
from ssm_analysis.checkpoint.loading import load
from tests.support.layout_cases import complex_of, output, pairs_of

H, P, L = 3, 4, 15


def random(*shape):
    return np.random.default_rng(len(shape) * 100 + sum(shape)).standard_normal(shape)


def states(lam, B, u):
    """x = lam x + B u from zero."""
    x, seen = np.zeros(len(lam), complex), []
    for u_k in u:
        x = lam * x + B @ u_k
        seen.append(x)
    return np.array(seen)


def s5_recurrence(Lambda, B, C, D, step, u, *, factor, discretization="zoh"):
    """Both directions count u[k]; the columns of C are those of one scan, or of two."""
    if discretization == "zoh":
        lam = np.exp(Lambda * step)
        B = ((lam - 1) / Lambda)[:, None] * B
    else:
        lam = (1 + step / 2 * Lambda) / (1 - step / 2 * Lambda)
        B = (step / (1 - step / 2 * Lambda))[:, None] * B
    x = states(lam, B, u)
    if C.shape[1] == 2 * len(lam):
        x = np.concatenate([x, states(lam, B, u[::-1])[::-1]], axis=1)
    return factor * (x @ C.T).real + D * u


def linderman(*, half=True, two=None):
    t = {
        "Lambda_re": random(P) - 0.5, "Lambda_im": -np.abs(random(P)), "B": random(P, H, 2), "D": random(H), "log_step": random(P, 1) - 2,
        **{name: random(H, P, 2) + i for i, name in enumerate({"C1 and C2": ("C1", "C2")}.get(two, ("C",)))},
    }  # fmt: skip
    t["Lambda_re"][0] = 0.2
    if two == "wide C":
        t["C"] = random(H, 2 * P, 2)
    if not half:
        t["Lambda_im"] = t["Lambda_im"] * [1, -1, 1, -1]
    return t


@pytest.mark.parametrize("two", [None, "C1 and C2", "wide C"])
@pytest.mark.parametrize(
    "said", [{}, {"clip_eigs": True}, {"step_rescale": 2.0}, {"discretization": "bilinear", "clip_eigs": True, "step_rescale": 0.5}]
)
@pytest.mark.parametrize("half", [True, False])
def test_s5(two, said, half):
    t, u = linderman(half=half, two=two), random(L, H)
    layers = load({"params": {"encoder": {"layers_1": {"seq": t}, "encoder": {"kernel": random(1, H)}}}}, assume=said)
    name = "encoder.layers_1.seq"
    assert list(layers) == [name, name + ":reverse"][: 1 + bool(two)]
    assert (layers[name].options.conj_sym, layers[name].assumptions["conj_sym"].source) == (half, "weights")
    re = np.minimum(t["Lambda_re"], -1e-4) if said.get("clip_eigs") else t["Lambda_re"]
    C = np.concatenate([complex_of(t[n]) for n in ("C", "C1", "C2") if n in t], axis=1)
    step = said.get("step_rescale", 1.0) * np.exp(t["log_step"][:, 0])
    how = {"factor": 1 + half, "discretization": said.get("discretization", "zoh")}
    want = s5_recurrence(re + 1j * t["Lambda_im"], complex_of(t["B"]), C, t["D"], step, u, **how)
    np.testing.assert_allclose(output(layers, u), want, rtol=0, atol=1e-12 * np.max(np.abs(want)))


def test_the_caller_knows_better_than_the_signs():
    t = linderman(half=False)
    (layer,) = load(t, assume={"conj_sym": True}).values()
    assert (layer.options.conj_sym, layer.assumptions["conj_sym"].source) == (True, "caller")


def test_an_s5_matrix_of_another_width():
    with pytest.raises(CheckpointError, match="C of S5 must have 4 columns, one for each state, or 8 where it is bidirectional, got 5"):
        load(linderman() | {"C": random(H, 5, 2)})


def s5_pytorch(*, two=False):
    return {
        "Lambda": random(P) - 1.5 + 1j * random(P), "B": random(P, H, 2), "C": random(H, (1 + two) * P) - 0.5j, "D": random(H),
        "log_step": random(P) - 2,
    }  # fmt: skip


S5_PYTORCH = {
    "as it is": lambda t: t,
    "steps in a column": lambda t: t | {"log_step": t["log_step"][:, None]},
    "complex B": lambda t: t | {"B": complex_of(t["B"])},
    "in pairs": lambda t: t | {"Lambda": pairs_of(t["Lambda"]), "C": pairs_of(t["C"])},
}


@pytest.mark.parametrize("form", S5_PYTORCH)
@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("said", [{}, {"discretization": "bilinear", "step_rescale": 2.0}, {"step_scale": 2.0}])
def test_s5_pytorch(form, two, said):
    t, u = s5_pytorch(two=two), random(L, H)
    layers = load({f"block.seq.{n}": x for n, x in S5_PYTORCH[form](t).items()}, assume=said)
    assert list(layers) == ["block.seq", "block.seq:reverse"][: 1 + two]
    step = (2.0 if said else 1.0) * np.exp(t["log_step"])
    how = {"factor": 1, "discretization": said.get("discretization", "zoh")}
    want = s5_recurrence(t["Lambda"], complex_of(t["B"]), t["C"], t["D"], step, u, **how)
    np.testing.assert_allclose(output(layers, u), want, rtol=0, atol=1e-12 * np.max(np.abs(want)))


def test_s5_pytorch_in_factors():
    t, k = s5_pytorch(), 2
    factors = {"BP": random(P, k) + 0.5j, "BH": random(H, k) - 1j, "CH": random(k, H) + 1j, "CP": random(k, P) - 0.25j}
    u = random(L, H)
    layers = load({n: x for n, x in t.items() if n not in ("B", "C")} | factors)
    B, C = factors["BP"] @ factors["BH"].T, factors["CH"].T @ factors["CP"]
    want = s5_recurrence(t["Lambda"], B, C, t["D"], np.exp(t["log_step"]), u, factor=1)
    np.testing.assert_allclose(output(layers, u), want, rtol=0, atol=1e-12 * np.max(np.abs(want)))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"liquid": True}, "liquid S5 is not linear"),
        ({"degree": 2}, "raises the discrete B to the power degree = 2, which no other S5 does"),
    ],
)
def test_relatives_of_s5_that_are_none(said, why):
    with pytest.raises(CheckpointError, match=why):
        load(s5_pytorch(), config=said)


def lru():
    names = {
        "nu_log": (5,),
        "theta_log": (5,),
        "gamma_log": (5,),
        "D": (H,),
        "B_re": (5, H),
        "B_im": (5, H),
        "C_re": (H, 5),
        "C_im": (H, 5),
    }
    return {name: random(*shape) + 0.1 * i for i, (name, shape) in enumerate(names.items())}


LRU = {
    "minimal-LRU": lambda t, B, C: t,
    "complex": lambda t, B, C: {**{n: x for n, x in t.items() if n[:2] not in ("B_", "C_")}, "B": B, "C": C},
    "in pairs": lambda t, B, C: {**{n: x for n, x in t.items() if n[:2] not in ("B_", "C_")}, "B": pairs_of(B), "C": pairs_of(C)},
}


@pytest.mark.parametrize("form", LRU)
def test_lru(form):
    t, u = lru(), random(L, H)
    B, C = t["B_re"] + 1j * t["B_im"], t["C_re"] + 1j * t["C_im"]
    layers = load({f"params/encoder/layers_0/seq/{n}": x for n, x in LRU[form](t, B, C).items()})
    assert list(layers) == ["encoder.layers_0.seq"]
    lam = np.exp(-np.exp(t["nu_log"]) + 1j * np.exp(t["theta_log"]))
    want = (states(lam, np.exp(t["gamma_log"])[:, None] * B, u) @ C.T).real + t["D"] * u
    np.testing.assert_allclose(output(layers, u), want, rtol=0, atol=1e-12 * np.max(np.abs(want)))
