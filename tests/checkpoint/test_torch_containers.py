"""What torch.save wrote: wrappers, Lightning, objects of classes that are not here; no code of a file is run."""

import argparse
import dataclasses
import functools
import sys
import types
import zipfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from ssm_analysis.checkpoint import CheckpointError, open_tensors
from tests.support.checkpoint_files import tree_of, write_orbax, write_torch

STATE = {"layers.0.A_log": torch.arange(3.0), "layers.0.D": torch.ones(2, dtype=torch.bfloat16)}


def fake_class(monkeypatch, module, name, base=object):
    """A class that pickles under a foreign name, as that of a package which is not installed here."""
    cls = type(name, (base,), {"__module__": module})
    parts = module.split(".")
    for i in range(len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[: i + 1]), types.ModuleType(module))
    setattr(sys.modules[module], name, cls)
    return cls


class Network(torch.nn.Module):
    """Parameters, a buffer that is saved and one that is not, a module in a module."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.GELU(), torch.nn.Linear(3, 1))])
        self.register_buffer("kept", torch.ones(2, dtype=torch.bfloat16))
        self.register_buffer("temporary", torch.ones(2), persistent=False)


class Settings:
    """A user's own."""


READ = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "complex32", "complex64", "complex128", "float16",
    "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2",
}  # fmt: skip


class TestTorch:
    def names(self, store):
        assert set(store.shapes) == set(STATE)
        np.testing.assert_array_equal(store.read("layers.0.A_log"), [0, 1, 2])

    @pytest.mark.parametrize(
        "wrapped",
        [
            {"model": STATE, "epoch": 3},
            {"params": STATE},
            {"state_dict": STATE, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
            {"model_state_dict": STATE, "optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(3)}}}, "loss": torch.tensor(1.0)},
            {"module": STATE, "lr_scheduler": {"x": torch.ones(1)}},
            {"checkpoint": {"model": STATE}, "version": 1},
            {"my_model": STATE, "epoch": 3},
            dict(STATE, optimizer={"state": {0: {"exp_avg": torch.ones(3)}}}),
        ],
        ids=lambda wrapped: "-".join(wrapped)[:40],
    )
    def test_wrappers(self, tmp_path, wrapped):
        torch.save(wrapped, tmp_path / "x.pt")
        for source in (tmp_path / "x.pt", wrapped):
            with open_tensors(source) as store:
                self.names(store)
                assert not store.problems

    def test_weights_beside_the_weights_are_told(self, tmp_path):
        torch.save({"model": STATE, "ema": STATE}, tmp_path / "x.pt")
        with open_tensors(tmp_path / "x.pt") as store:
            self.names(store)
            assert store.problems == ("left out, weights beside 'model'; to read these pass them themselves: 'ema'",)

    def test_a_tree_is_not_taken_for_a_wrapper(self, tmp_path):
        tree = {"encoder": {"model": {"w": {"a": torch.ones(1)}}}, "decoder": {"w": torch.zeros(1)}}
        torch.save(tree, tmp_path / "x.pt")
        with open_tensors(tmp_path / "x.pt") as store:
            assert set(store.shapes) == {"encoder/model/w/a", "decoder/w"}

    @pytest.mark.parametrize("new", [True, False])
    def test_lightning(self, tmp_path, new):
        checkpoint = {
            "state_dict": STATE,
            "hyper_parameters": {
                "lr": 0.1,
                "layer": {"dt_transform": "softplus", "lags": [1, 2]},
                "path": Path("a/b"),
                "gain": np.float32(2.5),
            },
            "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
            "lr_schedulers": [],
            "callbacks": {"best": {"score": torch.tensor(1.0)}},
            "loops": {"fit": {"x": torch.ones(1)}},
            "pytorch-lightning_version": "2.0",
            "epoch": 1,
        }
        torch.save(checkpoint, tmp_path / "x.ckpt", _use_new_zipfile_serialization=new)
        with open_tensors(tmp_path / "x.ckpt") as store:
            self.names(store)
            assert store.problems == ()
            assert store.hyper_parameters["lr"] == 0.1
            assert store.hyper_parameters["layer"] == {"dt_transform": "softplus", "lags": [1, 2]}
            assert store.hyper_parameters["gain"] == 2.5
            assert "a, b" in store.hyper_parameters["path"]

    def test_a_namespace(self, tmp_path):
        torch.save(
            {"state_dict": STATE, "hyper_parameters": argparse.Namespace(lr=0.1, inner=argparse.Namespace(disc="zoh"))}, tmp_path / "x"
        )
        with open_tensors(tmp_path / "x") as store:
            assert store.hyper_parameters == {"lr": 0.1, "inner": {"disc": "zoh"}}
            assert store.problems == ()

    def test_a_hydra_configuration(self, tmp_path, monkeypatch):
        """OmegaConf's containers hold nodes under _content, nodes their value under _val, and all lead back to their parent."""
        mapping = fake_class(monkeypatch, "omegaconf.dictconfig", "DictConfig")
        node = fake_class(monkeypatch, "omegaconf.nodes", "AnyNode")
        config, value, inner = mapping(), node(), mapping()
        value.__dict__.update(_val="softplus", _parent=inner)
        inner.__dict__.update(_content={"dt_transform": value}, _parent=config, _metadata=node())
        config.__dict__.update(_content={"layer": inner}, _parent=None, _metadata=node())
        torch.save({"state_dict": STATE, "hyper_parameters": config}, tmp_path / "x.ckpt")
        monkeypatch.undo()
        with open_tensors(tmp_path / "x.ckpt") as store:
            self.names(store)
            assert store.hyper_parameters == {"layer": {"dt_transform": "softplus"}}
            assert store.problems == ()

    @pytest.mark.parametrize(
        ("base", "state"), [(object, {"lr": 0.1}), (dict, {"lr": 0.1}), (object, (None, {"lr": 0.1}))], ids=["attributes", "items", "slots"]
    )
    def test_objects_of_unknown_classes_become_data(self, tmp_path, monkeypatch, base, state):
        cls = fake_class(monkeypatch, "their.package", "Config", base)
        if isinstance(state, tuple):
            cls.__getstate__ = lambda self: state
        config = cls(state) if base is dict else cls()
        if base is object and isinstance(state, dict):
            config.__dict__.update(state)
        torch.save({"state_dict": STATE, "hyper_parameters": {"config": config, "kind": cls}}, tmp_path / "x.ckpt")
        monkeypatch.undo()
        with open_tensors(tmp_path / "x.ckpt") as store:
            self.names(store)
            assert store.hyper_parameters == {"config": {"lr": 0.1}, "kind": "their.package.Config"}
            assert store.problems == ("objects of 'their.package.Config' were kept as data: no code of a file is run",)

    def test_a_mixture_of_unknown_classes(self, tmp_path, monkeypatch):
        """Slots, items, calls with arguments, a class derived from list, a deque: each in its own way."""
        slots = fake_class(monkeypatch, "their.package", "Slots")
        slots.__getstate__ = lambda self: (None, {"a": 1})
        items = fake_class(monkeypatch, "their.other", "Items", dict)
        several = fake_class(monkeypatch, "their.own", "List", list)
        stored = {"a": slots(), "b": items(x=1), "c": several([1, {"y": 2}]), "d": deque([3], 5), "e": functools.partial(len, 4), "f": 1j}
        torch.save({"state_dict": STATE, "hyper_parameters": stored}, tmp_path / "x.ckpt")
        monkeypatch.undo()
        with open_tensors(tmp_path / "x.ckpt") as store:
            self.names(store)
            assert store.hyper_parameters == {
                "a": {"a": 1}, "b": {"x": 1}, "c": [1, {"y": 2}], "d": [3], "e": "functools.partial(builtins.len)", "f": "1j"
            }  # fmt: skip
            told = "objects of 'functools.partial', 'their.other.Items', 'their.own.List', 'their.package.Slots' were kept as data"
            assert store.problems[0].startswith(told)

    def test_what_torch_cannot_build_is_named(self, tmp_path, monkeypatch):
        """Two classes derived from list: which classes are, the file does not say."""
        lists = [fake_class(monkeypatch, f"their.package{i}", "List", list) for i in range(2)]
        torch.save({"state_dict": STATE, "hyper_parameters": [cls([1]) for cls in lists]}, tmp_path / "x.ckpt")
        monkeypatch.undo()
        wanted = (
            r"x\.ckpt: is damaged, or no file of weights \(UnpicklingError: Can only append to lists.*\); "
            r"it names 'their\.package0\.List', 'their\.package1\.List', which is not built"
        )
        with pytest.raises(CheckpointError, match=wanted) as caught:
            open_tensors(tmp_path / "x.ckpt")
        assert "weights_only" not in str(caught.value)

    def test_what_the_user_allowed_stays_allowed(self, tmp_path):
        torch.save({"state_dict": STATE, "hyper_parameters": {"inner": Settings()}}, tmp_path / "x.ckpt")
        with open_tensors(tmp_path / "x.ckpt") as store:
            assert "Settings' were kept as data" in store.problems[0]
        with torch.serialization.safe_globals([Settings]):
            before = set(torch.serialization.get_safe_globals())
            with open_tensors(tmp_path / "x.ckpt") as store:
                self.names(store)
                assert store.problems == ()
            assert set(torch.serialization.get_safe_globals()) == before

    def test_stand_ins_are_gone_afterwards(self, tmp_path):
        torch.save({"state_dict": STATE, "hyper_parameters": {"p": Path("x")}}, tmp_path / "x.ckpt")
        before = set(torch.serialization.get_safe_globals())
        open_tensors(tmp_path / "x.ckpt").close()
        assert set(torch.serialization.get_safe_globals()) == before

    @pytest.mark.parametrize("wrap", [lambda module: module, lambda module: {"model": module, "epoch": 1}], ids=["bare", "wrapped"])
    def test_a_pickled_module_is_its_state_dict(self, tmp_path, wrap):
        network = Network()
        torch.save(wrap(network), tmp_path / "x.pt")
        with open_tensors(tmp_path / "x.pt") as store:
            assert set(store.shapes) == set(network.state_dict())
            np.testing.assert_array_equal(store.read("layers.1.1.weight"), network.layers[1][1].weight.detach().double())
            assert "Network" in store.problems[0]

    def test_views_conjugates_and_strangers(self, tmp_path):
        z = torch.tensor([1 + 2j])
        with pytest.warns(UserWarning, match="ComplexHalf"):
            half = torch.tensor([1.5 - 0.5j], dtype=torch.complex32)
        tensors = {
            "t": torch.arange(6.0).reshape(2, 3).t(),
            "conj": z.conj(),
            "neg": torch.tensor([1 + 2j]).conj().imag,
            "half": half,
            "row": torch.ones(1).expand(2, 3),
        }
        torch.save({**tensors, "sparse": torch.eye(3).to_sparse(), "meta": torch.empty(3, device="meta")}, tmp_path / "x.pt")
        with open_tensors(tmp_path / "x.pt") as store:
            assert set(store.shapes) == set(tensors)
            np.testing.assert_array_equal(store.read("t"), [[0, 3], [1, 4], [2, 5]])
            np.testing.assert_array_equal(store.read("conj"), [1 - 2j])
            np.testing.assert_array_equal(store.read("neg"), [-2])
            np.testing.assert_array_equal(store.read("half"), [1.5 - 0.5j])
            np.testing.assert_array_equal(store.read("row"), np.ones((2, 3)))
            assert store.problems == ("left out, sparse, quantized, without data or of a special class: 'sparse', 'meta'",)

    def test_without_torch(self, tmp_path, monkeypatch):
        path = write_torch(tmp_path / "x.pt", {"w": np.ones(2)})
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(
            CheckpointError, match=r"torch is not installed: pip install 'ssm-analysis\[torch\]', or save the weights as safe"
        ):
            open_tensors(path)
        with open_tensors({"w": np.ones(2)}) as store:
            assert set(store.shapes) == {"w"}

    def test_old_torch(self, tmp_path, monkeypatch):
        path = write_torch(tmp_path / "x.pt", {"w": np.ones(2)})
        monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
        with pytest.raises(CheckpointError, match=r"torch 2\.5\.1\+cpu can be made to run code .*CVE-2025-32434.*upgrade to torch 2\.6"):
            open_tensors(path)

    def test_orbax_without_tensorstore(self, tmp_path, rng, monkeypatch):
        folder = write_orbax(tmp_path / "o", tree_of(rng))
        monkeypatch.setitem(sys.modules, "tensorstore", None)
        with pytest.raises(CheckpointError, match=r"is an orbax checkpoint, which tensorstore reads: pip install 'ssm-analysis\[orbax\]'"):
            open_tensors(folder)

    @pytest.mark.parametrize(
        ("save", "message"),
        [
            (lambda path: torch.save({"w": torch.ones(1)}, path, pickle_protocol=4), "it is of protocol 4, and torch reads up to 2"),
            (lambda path: torch.save({"epoch": 3}, path), "holds no tensors that could be read; left out, not tensors: 'epoch'"),
        ],
    )
    def test_torch_files_without_weights(self, tmp_path, save, message):
        save(tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=message):
            open_tensors(tmp_path / "x.pt")

    def test_torchscript(self, tmp_path):
        """By what such an archive holds; torch deprecates writing them."""
        with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
            archive.writestr("x/data.pkl", b"")
            archive.writestr("x/constants.pkl", b"")
        with pytest.raises(CheckpointError, match=r"is a TorchScript archive, which is a program; save its state_dict\(\)"):
            open_tensors(tmp_path / "x.pt")

    def test_a_live_module(self):
        network = Network()
        with open_tensors(network) as store:
            assert set(store.shapes) == set(network.state_dict())
            assert store.dtypes["kept"] == "bfloat16"
            assert store.description == "live Network, 5 tensors"
            assert (store.hyper_parameters, store.config) == ({}, {})
            np.testing.assert_array_equal(store.read("layers.0.weight"), network.layers[0].weight.detach().double())
            with torch.no_grad():
                network.layers[0].weight.fill_(7)  # nothing is copied before it is read
            np.testing.assert_array_equal(store.read("layers.0.weight"), np.full((3, 2), 7.0))

    @pytest.mark.parametrize(
        "config",
        [
            {"d_model": 4},
            types.SimpleNamespace(d_model=4),
            types.SimpleNamespace(to_dict=lambda: {"d_model": 4}),
            dataclasses.make_dataclass("Config", ["d_model"])(4),
        ],
        ids=["mapping", "namespace", "transformers", "dataclass"],
    )
    def test_configurations_of_live_modules(self, config):
        """transformers' has to_dict; mamba_ssm's is a dataclass; Lightning's hparams is a mapping, its users' anything."""
        network = Network()
        network.hparams = network.config = config
        with open_tensors(network) as store:
            assert store.hyper_parameters == store.config == {"d_model": 4}

    def test_a_model_of_transformers(self):
        from transformers import MambaConfig, MambaForCausalLM

        model = MambaForCausalLM(MambaConfig(vocab_size=8, hidden_size=4, state_size=3, num_hidden_layers=1))
        with open_tensors(model) as store:
            assert store.shapes["backbone.layers.0.mixer.A_log"] == (8, 3)
            assert store.config["model_type"] == "mamba"
            assert store.config["state_size"] == 3

    @pytest.mark.filterwarnings("ignore")
    def test_every_precision_of_torch(self, tmp_path):
        """Each is read or left out with a word, never an error."""
        dtypes = sorted({x for x in vars(torch).values() if isinstance(x, torch.dtype)}, key=str)
        tensors = {str(dtype): torch.zeros(16, dtype=torch.uint8).view(dtype) for dtype in dtypes}
        read = {f"torch.{name}" for name in READ}
        with open_tensors(tensors) as store:
            assert read <= set(store.shapes)
            assert "left out" in store.problems[0]
            for name in store.shapes:
                assert store.read(name).shape == tensors[name].shape
        torch.save({name: tensors[name] for name in read}, tmp_path / "x.pt")
        with open_tensors(tmp_path / "x.pt") as store:
            assert set(store.shapes) == read
            assert all(store.read(name).size for name in read)
            assert store.problems == ()

    def test_several_threads_open_at_once(self, tmp_path):
        """The stand-ins of one are not those of another."""
        for i in range(8):
            torch.save({"state_dict": STATE, "hyper_parameters": {"i": i, "path": Path("a") / str(i)}}, tmp_path / f"{i}.ckpt")
        with ThreadPoolExecutor(8) as pool:
            for i, store in enumerate(pool.map(open_tensors, [tmp_path / f"{i % 8}.ckpt" for i in range(64)])):
                assert store.hyper_parameters["i"] == i % 8
                assert store.hyper_parameters["path"].endswith(f"(a, {i % 8})")
