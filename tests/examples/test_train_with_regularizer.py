"""The example with the Hankel nuclear norm as a penalty: it learns, it compresses, and its gradients are right."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from ssm_analysis import FAMILIES, simulate
from ssm_analysis.analyses.gramians.hankel import hsv
from ssm_analysis.analyses.norms.losses import hankel_nuclear_norm

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_with_regularizer.py"
STEPS, LENGTH, WEIGHT = 120, 12, 3e-3


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("train_with_regularizer", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def outcomes(example):
    """Without and with the penalty."""
    torch.set_num_threads(1)
    test = example.documents(256, LENGTH, torch.Generator().manual_seed(0))
    return [example.outcome(example.train(weight, steps=STEPS, length=LENGTH), *test) for weight in (0.0, WEIGHT)]


def test_both_networks_learn_the_task(outcomes):
    for found in outcomes:
        assert found.accuracy == 1
        assert found.loss < 0.05


def test_the_penalty_leaves_less_in_fewer_states(outcomes, example):
    plain, penalized = outcomes
    assert penalized.hankel_values.sum() < plain.hankel_values.sum() / 5
    assert penalized.states_needed < 0.8 * plain.states_needed
    relative = [found.hankel_values / found.hankel_values[0] for found in outcomes]
    assert np.all(relative[1][16:] < relative[0][16:])
    assert plain.accuracy_with[0] == penalized.accuracy_with[0] == 1
    assert penalized.accuracy_with[1] > plain.accuracy_with[1]
    assert example.KEPT[0] < example.CHANNELS * example.STATES


def test_the_gradient_of_the_penalty_by_the_parameters_is_right():
    """Through the family, all modes of its systems, and their Hankel singular values."""
    torch.manual_seed(4)
    layer = FAMILIES["s4d"].init(d_model=2, d_state=8, init="lin", dt_min=1e-2, dt_max=2e-1, seed=3)
    params = {name: torch.tensor(np.array(x)) for name, x in layer.params.items()}
    # away from the first mode of S4D-Lin, which starts on the real axis, and to complex B, which starts at 1
    params = {name: (x + 0.1 * torch.randn_like(x)).requires_grad_() for name, x in params.items()}

    def penalty(*x):
        return hankel_nuclear_norm(FAMILIES["s4d"].system(dict(zip(params, x, strict=True)))).sum()

    assert torch.autograd.gradcheck(penalty, tuple(params.values()), fast_mode=True)


def test_the_network_is_the_system(example):
    """Its output is that of the recurrence of the paper, written out step by step."""
    model = example.Recall(seed=5)
    tokens, _ = example.documents(3, 10, torch.Generator().manual_seed(1))
    params = {name: x.detach().numpy() for name, x in model.params.items()}
    inputs = model.embedding(tokens).detach().numpy()
    y = np.stack([FAMILIES["s4d"].reference(params, inputs[:, i])[..., 0] for i in range(3)], axis=1)
    want = model.read_out(torch.tensor(y, dtype=torch.float32))
    torch.testing.assert_close(model(tokens), want, rtol=1e-4, atol=1e-4)


def test_all_channels_as_one_system(example):
    channels = example.Recall(seed=6).system()
    whole = example.as_one_system(channels)
    assert (whole.batch_shape, whole.nstates) == ((), channels.nstates * example.CHANNELS)
    values = torch.sort(torch.flatten(hsv(channels)), descending=True).values
    torch.testing.assert_close(hsv(whole), values, rtol=1e-6, atol=1e-9)
    u = torch.randn(20, example.CHANNELS, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(simulate(whole, u), simulate(channels, u[..., None])[..., 0], rtol=1e-4, atol=1e-4)


def test_documents(example):
    tokens, answers = example.documents(100, 7, torch.Generator().manual_seed(3))
    assert tokens.shape == (7, 100)
    assert torch.equal(tokens[0], answers)
    assert set(answers.tolist()) == set(range(8))
    assert (tokens[1:] == example.BLANK).all()


def test_from_the_command_line(example, capsys, tmp_path, monkeypatch):
    picture = tmp_path / "values.png"
    monkeypatch.setattr(example, "KEPT", (16,))
    assert example.main(["--steps", "2", "--length", "4", "--out", str(picture)]) == 0
    printed = capsys.readouterr().out
    for words in ("8 channels of 16 states, 128 in all", "before training", "trained", "... with penalty", f"drawn: {picture}"):
        assert words in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("wrong", [["--weight", "0"], ["--steps", "0"], ["--length", "1"]])
def test_wrong_usage(example, wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        example.main(wrong)
    assert stop.value.code == 2
    assert "--weight must be positive, --steps at least 1, --length at least 2" in capsys.readouterr().err
