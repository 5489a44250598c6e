"""What `capture` finds before each recurrent layer, run through the exported layer, is what the model's own scan returned."""

import importlib
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from ssm_analysis import FAMILIES, capture, load, simulate
from tests.support.torch_blocks import S4D, BiMamba, Block, Mamba, Typeseg

L, WIDTH, VOCABULARY = 40, 8, 16
SIZES = {"hidden_size": WIDTH, "num_hidden_layers": 3, "vocab_size": VOCABULARY}
MAMBA2 = {"num_heads": 4, "head_dim": 4, "state_size": 5, "n_groups": 2, "chunk_size": 16}
GEMMA = {"lru_width": WIDTH, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 12, "attention_window_size": 8}
MODELS = {
    "mamba": ("MambaForCausalLM", {"state_size": 4}),
    "falcon_mamba": ("FalconMambaForCausalLM", {"state_size": 4, "mixer_rms_eps": 1e-2}),
    "mamba2": ("Mamba2ForCausalLM", MAMBA2),
    "recurrent_gemma": ("RecurrentGemmaForCausalLM", GEMMA),
}
SCANS = {"mamba": "mamba_selective_scan", "falcon_mamba": "mamba_selective_scan", "mamba2": "mamba2_chunk_scan"}


@pytest.fixture(autouse=True)
def seeded():
    """Fresh modules of torch draw their weights from its global generator."""
    torch.manual_seed(0)


def relative(found, want):
    assert found.shape == want.shape
    return np.max(np.abs(found - want)) / np.max(np.abs(want))


def output(layer, u):
    """What the layer makes of what enters it."""
    sys = layer.along(u) if layer.time_varying else layer.system()
    return simulate(sys, layer.core_input(u))


# models of transformers


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def model_of(name):
    """A small one with random weights, none at the value that it is initialized with, which may be a round one."""
    modeling = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    kind, sizes = MODELS[name]
    config = next(getattr(modeling, n) for n in vars(modeling) if n.endswith("Config") and n != "PreTrainedConfig")
    torch.manual_seed(3)
    model = getattr(modeling, kind)(config(**SIZES, **sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return modeling, model.eval()


def spied(name, modeling, model, monkeypatch):
    """A list that the model fills with what its scans return, before the gate that some apply at their end, (L, *batch)."""
    seen = []
    if name == "recurrent_gemma":
        for part in model.modules():
            if type(part).__name__ == "RecurrentGemmaRglru":
                part.register_forward_hook(lambda module, entered, y: seen.append(y[0].detach().numpy()))
        return seen
    scan = getattr(modeling, SCANS[name])

    def spy(x, dt, A, B, C, z=None, **keywords):
        y = scan(x, dt, A, B, C, z=None, **keywords)
        y = y[0] if isinstance(y, tuple) else y  # the last state comes with it where a cache is kept
        seen.append((y.mT if name != "mamba2" else y)[0].detach().numpy())
        return scan(x, dt, A, B, C, z=z, **keywords)

    monkeypatch.setattr(modeling, SCANS[name], spy)
    return seen


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", MODELS)
def test_the_exported_layer_returns_what_the_scan_of_transformers_returns(name, monkeypatch):
    modeling, model = model_of(name)
    seen = spied(name, modeling, model, monkeypatch)
    captured = capture(model, {"input_ids": torch.arange(L)[None] * 7 % VOCABULARY})
    layers = load(model)
    assert list(captured) == list(layers)
    assert len(seen) == len(layers) >= 2
    for (layer_name, u), y in zip(captured.items(), seen, strict=True):
        assert u.shape == (L, WIDTH)
        assert u.dtype == np.float64
        assert relative(output(layers[layer_name], u)[..., 0], y) < 1e-5


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_left_as_it_was(name):
    """Its mode, its hooks, and the states that RecurrentGemma keeps in attributes."""
    _, model = model_of(name)
    model.train()
    frozen = next(iter(model.children()))
    frozen.eval()
    tokens = torch.arange(L)[None] % VOCABULARY
    before = [{key: x for key, x in vars(part).items() if not key.endswith("hooks")} for part in model.modules()]
    first, second = capture(model, tokens), capture(model, (tokens,))
    for u, again in zip(first.values(), second.values(), strict=True):
        np.testing.assert_array_equal(u, again)
    for part, attributes in zip(model.modules(), before, strict=True):
        assert {key: x for key, x in vars(part).items() if not key.endswith("hooks")} == attributes
        assert not part._forward_pre_hooks
        assert not part._forward_pre_hooks_with_kwargs
        assert part.training != (part in set(frozen.modules()))
    assert all(p.grad is None for p in model.parameters())


# a trained network


@pytest.fixture(scope="module")
def typeseg():
    """The network in torch, what its own scans returned along real text, forward and reverse of block 0, 1, ..., and its logits."""
    pytest.importorskip("typeseg", reason="the trained Mamba is in the package typeseg 0.2.7, which is not installed")
    from importlib.metadata import metadata

    from typeseg import _mamba_kernel
    from typeseg._runtime import _weights
    from typeseg._tokenize import text_to_bytes

    weights, scans = {name: x.astype(np.float64) for name, x in _weights("mamba_al.npz")._d.items()}, []
    tokens = np.minimum(text_to_bytes("Résumé: " + metadata("typeseg").json["description"])[:120], 128)

    class Lifted:
        """numpy in which float32 means float64: runs the package's code in 64 bits."""

        float32 = np.float64

        def __getattr__(self, name):
            return getattr(np, name)

    def scan(xp, *arguments):
        scans.append(_mamba_kernel._selective_scan_seq(xp, *arguments))
        return scans[-1]

    logits = _mamba_kernel.mamba_forward(Lifted(), weights, tokens, scan=scan)
    return SimpleNamespace(module=Typeseg(weights), tokens=torch.tensor(tokens)[None], scans=scans, logits=logits)


def test_typeseg_in_torch_is_typeseg(typeseg):
    with torch.no_grad():
        assert relative(typeseg.module(typeseg.tokens)[0].numpy(), typeseg.logits) < 1e-10


def test_every_layer_of_a_trained_mamba_along_real_text_in_both_directions(typeseg):
    captured, layers = capture(typeseg.module, typeseg.tokens), load(typeseg.module)
    assert list(captured) == list(layers) == [f"blocks.{i}.mixer{end}" for i in range(6) for end in ("", ":reverse")]
    for (name, u), y in zip(captured.items(), typeseg.scans, strict=True):
        assert relative(output(layers[name], u)[..., 0], y) < 1e-10
    np.testing.assert_array_equal(captured["blocks.2.mixer:reverse"][::-1], captured["blocks.2.mixer"])
    torch.from_numpy(captured["blocks.2.mixer:reverse"])  # which takes no negative strides


# plain modules


def test_features_first():
    module = nn.Sequential(nn.Conv1d(3, WIDTH, 1), S4D(WIDTH, 6), S4D(WIDTH, 6))
    captured, layers = capture(module, torch.randn(1, 3, L)), load(module)
    assert [u.shape for u in captured.values()] == [(L, WIDTH)] * 2
    for (name, u), part in zip(captured.items(), module[1:], strict=True):
        assert relative(output(layers[name], u)[..., 0].T, part.outputs[-1][0].numpy()) < 1e-5


def test_a_bare_layer_and_a_document_without_a_batch():
    module, u = Mamba(WIDTH, 6, 3), torch.randn(L, WIDTH)
    captured = capture(nn.Sequential(nn.Unflatten(0, (1, L)), module), u)
    np.testing.assert_array_equal(captured["1"], u.double().numpy())
    assert relative(output(load(module)[""], captured["1"])[..., 0], module.scans[-1][0].numpy()) < 1e-5

    class Alone(Mamba):
        def forward(self, u):
            return super().forward(u[None])[0]

    bare = capture(Alone(WIDTH, 6, 3), u)
    np.testing.assert_array_equal(bare[""], u.double().numpy())


class Asking(nn.Module):
    """Calls its layer with a keyword, and as often as it is told to."""

    def __init__(self, layer, keyword, times=1):
        super().__init__()
        self.layer, self.keyword, self.times, self.seen = layer, keyword, times, []

    def forward(self, tokens):
        for i in range(self.times):
            u = nn.functional.one_hot(tokens, WIDTH) * (i + 1.0)
            self.seen.append((torch.is_grad_enabled(), self.training))
            self.layer(**{self.keyword: u, "mask": None}) if self.keyword else self.layer()
        return u


class Named(Mamba):
    """Knows its signal by whatever name."""

    def __init__(self):
        super().__init__(WIDTH, 6, 3)

    def forward(self, mask=None, **named):
        return super().forward(*named.values()) if named else mask


@pytest.mark.parametrize("keyword", ["hidden_states", "x", "u", "input_states", "activations"])
def test_layers_that_are_called_by_name(keyword):
    module = Asking(Named(), keyword).train()
    tokens = torch.arange(L)[None] % WIDTH
    np.testing.assert_array_equal(capture(module, tokens)["layer"], np.eye(WIDTH)[tokens[0]])
    assert module.seen == [(False, False)], "without gradients, in evaluation mode"
    assert module.training


def test_a_name_that_nobody_uses():
    module = Asking(Named(), "wave").train()
    with pytest.raises(ValueError, match="Named is called without a signal that is known by name, got wave, mask"):
        capture(module, torch.zeros(1, L, dtype=torch.int64))
    module.keyword = ""
    with pytest.raises(ValueError, match="Named is called without a signal that is known by name, got nothing"):
        capture(module, torch.zeros(1, L, dtype=torch.int64))
    assert module.training
    assert not module.layer._forward_pre_hooks, "hooks are removed also on errors"


def test_several_calls_and_several_documents():
    module = Asking(Named(), "x", times=2)
    tokens = torch.stack([torch.arange(L), torch.zeros(L, dtype=torch.int64)]) % WIDTH
    for call in range(2):
        for document in range(2):
            found = capture(module, tokens, call=call, document=document)["layer"]
            np.testing.assert_array_equal(found, (call + 1) * np.eye(WIDTH)[tokens[document]])
    with pytest.raises(ValueError, match=r"runs of layer 'layer': 2; say which, call=0, ..., 1"):
        capture(module, tokens, document=0)
    with pytest.raises(ValueError, match=r"documents in the batch: 2; say which, document=0, ..., 1"):
        capture(module, tokens, call=0)
    with pytest.raises(ValueError, match=r"documents in the batch: 2; document must lie between 0 and 1, got 2"):
        capture(module, tokens, call=0, document=2)
    with pytest.raises(ValueError, match=r"runs of layer 'layer': 2; call must lie between 0 and 1, got -1"):
        capture(module, tokens, call=-1, document=0)


class Lru(nn.Module):
    """An LRU whose tensors lie in a container that never runs; its model may skip it."""

    def __init__(self):
        super().__init__()
        layer = FAMILIES["lru"].init(d_model=WIDTH, d_state=6, seed=2)
        self.tensors = nn.ParameterDict({name: nn.Parameter(torch.tensor(x)) for name, x in layer.params.items()})
        self.output = None

    def forward(self, u):
        p = self.tensors
        pole = torch.exp(torch.complex(-p["nu_log"].exp(), p["theta_log"].exp()))
        B = torch.complex(p["B_re"], p["B_im"]) * p["gamma_log"].exp()[:, None]
        h, y = torch.zeros(len(pole), dtype=pole.dtype), []
        for x in u[0]:
            h = pole * h + B @ x.to(B.dtype)
            y.append((torch.complex(p["C_re"], p["C_im"]) @ h).real + p["D"] * x)
        self.output = torch.stack(y).detach()
        return self.output[None]


def test_tensors_in_a_container_belong_to_the_module_around_it():
    module, u = nn.Sequential(Lru()), torch.randn(1, L, WIDTH, dtype=torch.float64)
    (name,) = layers = load(module)
    outputs = []
    module[0].register_forward_hook(lambda module, entered, y: outputs.append(y[0].numpy()))
    captured = capture(module, u)
    np.testing.assert_array_equal(captured[name], u[0].numpy())
    assert relative(output(layers[name], captured[name]), outputs[0]) < 1e-12
    assert module[0].output is None, "what the run left in an attribute is gone"


class Skipping(nn.Module):
    def __init__(self, which):
        super().__init__()
        self.layers, self.which = nn.ModuleList([Block(WIDTH, BiMamba(WIDTH, 6, 3)) for _ in range(3)]), which

    def forward(self, u):
        for i in self.which:
            u = self.layers[i](u)
        return u


def test_layers_that_do_not_run_are_left_out():
    u = torch.randn(1, L, WIDTH)
    assert list(capture(Skipping([0, 2]), u)) == [f"layers.{i}.mixer{end}" for i in (0, 2) for end in ("", ":reverse")]
    with pytest.raises(ValueError, match="none of the 3 recurrent layers ran on these inputs"):
        capture(Skipping([]), u)


def test_buffers_are_put_back():
    class Counting(Mamba):
        def __init__(self):
            super().__init__(WIDTH, 6, 3)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, u):
            self.calls = self.calls + 1
            self.cache = u
            return super().forward(u)

    module = Counting()
    capture(module, torch.randn(1, L, WIDTH))
    assert module.calls.item() == 0
    assert not hasattr(module, "cache")


def test_a_short_precision_is_lifted():
    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = Named().to(torch.bfloat16)

        def forward(self, u):
            return self.layer(x=u.to(torch.bfloat16))

    u = torch.randn(1, 5, WIDTH)
    found = capture(Cast(), u)["layer"]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, u[0].to(torch.bfloat16).double().numpy())


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("source", [{}, "model.safetensors", None])
def test_only_live_modules_run(source):
    with pytest.raises(TypeError, match=r"module must be a torch.nn.Module, got (dict|str|NoneType); files hold weights, which do not run"):
        capture(source, torch.zeros(1, 3))
