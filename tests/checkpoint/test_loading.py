"""Which layers are found in a checkpoint, under which names and in which order, and who says what the weights do not."""

import json
import pickle

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from ssm_analysis import FAMILIES, simulate
from ssm_analysis.checkpoint import CheckpointError
from ssm_analysis.checkpoint.loading import find_layers, load
from ssm_analysis.families.s4d.layouts import V4
from ssm_analysis.families.s6.layouts import MAMBA
from ssm_analysis.families.shared.layouts import Layout, Part


def fresh(family, **how):
    return {name: np.asarray(x) for name, x in FAMILIES[family].init(d_model=4, **how).params.items()}


def lru(**how):
    return fresh("lru", d_state=6, **how)


def mamba(**how):
    return fresh("s6", d_state=3, **how)


def s4d(*, channels=1, outputs=None):
    """A layer of state-spaces/s4, version 4."""
    rng = np.random.default_rng(2)
    shapes = {"inv_dt": (4, 1), "A_real": (2, 3), "A_imag": (2, 3), "B": (1, 2, 3, 2), "C": (channels, 4, 3, 2)}
    return {f"kernel.{n}": rng.standard_normal(s) for n, s in shapes.items()} | {"D": rng.standard_normal((outputs or channels, 4))}


def below(prefix, tensors):
    return {prefix + name: x for name, x in tensors.items()}


# names and order


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("", ""), ("params/", ""), ("params.", ""), ("a.b.", "a.b"), ("a/b/", "a.b"), ("params/blocks.0/x/", "blocks.0.x"),
        ("model/params/x/", "model.params.x"), ("state.params2.", "state.params2"),
    ],
)  # fmt: skip
def test_a_name_is_what_the_keys_have_in_common(prefix, name):
    assert list(load(below(prefix, lru()))) == [name]
    assert list(load(below(prefix, s4d()))) == [name]


def test_layers_come_in_the_order_of_their_depth():
    order = [0, 2, 10, 1, 100, 9]
    tensors = {}
    for i in order:
        tensors |= below(f"layers.{i}.mixer.", mamba()) | below(f"layers.{i}.lru.", lru())
    assert list(load(tensors)) == [f"layers.{i}.{kind}" for i in sorted(order) for kind in ("lru", "mixer")]
    assert list(load(tensors, family="lru")) == [f"layers.{i}.lru" for i in sorted(order)]


def test_the_reverse_direction_follows_its_forward_one():
    two = below("layers.0.", s4d(channels=2, outputs=1)) | below("layers.1.", s4d()) | below("layers.10.", s4d(channels=4, outputs=2))
    layers = load(two)
    assert list(layers) == ["layers.0", "layers.0:reverse", "layers.1", "layers.10", "layers.10:reverse"]
    assert [layer.name for layer in layers.values()] == list(layers)
    forward, reverse = layers["layers.0"], layers["layers.0:reverse"]
    np.testing.assert_array_equal(reverse.system().D, 0)
    np.testing.assert_array_equal(reverse.params["A_real"], forward.params["A_real"])
    impulse = np.eye(6, 1) * np.ones((1, 4))
    first = simulate(reverse.system(), reverse.core_input(impulse))
    np.testing.assert_allclose(first[0], 0, atol=1e-14)
    assert np.all(np.abs(first[1]) > 0)


def test_a_shorter_name_finds_the_only_layer_below_it():
    layers = load(below("model.layers.0.mixer.", mamba()) | below("model.layers.1.mixer.", mamba()))
    assert layers["model.layers.1"] is layers["model.layers.1.mixer"]
    with pytest.raises(KeyError, match=r"no layer 'model'; below it are 'model.layers.0.mixer', 'model.layers.1.mixer' of 2"):
        layers["model"]
    with pytest.raises(KeyError, match=r"no layer 'model.layers.1.mixed'; near it are 'model.layers.1.mixer'"):
        layers["model.layers.1.mixed"]
    assert load(lru())[""].name == ""


def test_other_tensors_do_not_matter():
    tensors = below("a.", lru()) | {"a.norm.weight": np.ones(4), "head.weight": np.ones((2, 4)), "A_log": np.ones(3), "D": np.ones(2)}
    assert list(load(tensors)) == ["a"]


# numbers


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_numbers_are_the_stored_ones_in_64_bits(dtype, tmp_path):
    stored = {name: x.astype(dtype) for name, x in lru().items()}
    save_file(stored, tmp_path / "x.safetensors")
    (layer,) = load(tmp_path / "x.safetensors").values()
    for name, x in layer.params.items():
        assert x.dtype == np.float64
        np.testing.assert_array_equal(x, stored[name].astype(np.float64))


def test_a_device_makes_tensors_of_torch():
    (layer,) = load(s4d(), device="cpu").values()
    assert all(isinstance(x, torch.Tensor) for x in layer.params.values())
    assert layer.params["C"].dtype == torch.complex128
    u = np.ones((5, 4))
    (same,) = load(s4d()).values()
    y = simulate(layer.system(), layer.core_input(torch.tensor(u)))
    np.testing.assert_allclose(y.numpy(), simulate(same.system(), same.core_input(u)), rtol=1e-12)


def test_containers_of_the_same_layer_agree(tmp_path):
    tensors = {name: x.astype(np.float32) for name, x in below("layers.0.", s4d()).items()}
    save_file(tensors, tmp_path / "x.safetensors")
    np.savez(tmp_path / "x.npz", **tensors)
    torch.save({name: torch.tensor(x) for name, x in tensors.items()}, tmp_path / "x.pt")
    for source in (tmp_path / "x.safetensors", tmp_path / "x.npz", str(tmp_path / "x.pt")):
        (layer,) = load(source).values()
        np.testing.assert_array_equal(layer.params["D"], tensors["layers.0.D"])
        assert layer.name == "layers.0"


# who says what


def said(layer, name):
    return layer.assumptions[name].value, layer.assumptions[name].source


def test_the_caller_before_the_file_before_the_original_code():
    (plain,) = load(s4d()).values()
    assert said(plain, "disc") == ("zoh", "original default")
    (told,) = load(s4d(), config={"model": {"layer": {"disc": "bilinear", "dt_transform": "softplus"}}}).values()
    assert said(told, "disc") == ("bilinear", "caller")  # the configuration came from the caller
    (asked,) = load(s4d(), config={"disc": "bilinear", "dt_transform": "softplus"}, assume={"disc": "zoh"}).values()
    assert said(asked, "disc") == ("zoh", "caller")
    assert asked.assumptions["disc"].note == "the file says 'bilinear'"
    assert said(asked, "dt_transform") == ("softplus", "caller")


def test_the_hyper_parameters_of_a_lightning_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    state = {name: torch.tensor(x) for name, x in below("model.layers.0.layer.", s4d()).items()}
    hyper = {"model": {"layer": {"disc": "bilinear", "dt_transform": "softplus", "lr": None}}, "train": {"seed": 1}}
    torch.save({"state_dict": state, "hyper_parameters": hyper, "epoch": 3, "pytorch-lightning_version": "2.0"}, path)
    (layer,) = load(path).values()
    assert said(layer, "disc") == ("bilinear", "file")
    assert said(layer, "dt_transform") == ("softplus", "file")
    (other,) = load(path, assume={"dt_transform": "exp"}).values()
    assert said(other, "dt_transform") == ("exp", "caller")
    assert other.assumptions["dt_transform"].note == "the file says 'softplus'"
    (agreed,) = load(path, assume={"dt_transform": "softplus"}).values()
    assert agreed.assumptions["dt_transform"].note == ""


def test_the_configuration_in_the_folder(tmp_path):
    torch.save({name: torch.tensor(x) for name, x in below("backbone.layers.0.mixer.", mamba()).items()}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "falcon_mamba", "mixer_rms_eps": 0.5}))
    (layer,) = load(tmp_path).values()
    assert said(layer, "mixer_rms_eps") == (0.5, "file")
    (other,) = load(tmp_path, config={"model_type": "mamba"}).values()
    assert said(other, "mixer_rms_eps") == (None, "original default")


def test_a_configuration_that_says_two_things():
    (layer,) = load(s4d(), config={"encoder": {"disc": "bilinear"}, "decoder": [{"disc": "zoh"}, {"disc": "bilinear"}]}).values()
    assert said(layer, "disc") == ("zoh", "original default")
    assert set(layer.assumptions["disc"].note.removeprefix("the file says ").removesuffix(" in different places").split(", ")) == {
        "'zoh'", "'bilinear'"
    }  # fmt: skip
    (same,) = load(s4d(), config={"a": {"disc": "bilinear"}, "b": {"disc": "bilinear"}, "c": {"disc": None}}).values()
    assert said(same, "disc") == ("bilinear", "caller")


def test_a_live_module_says_what_its_attributes_say():
    class Kernel(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.disc, self.dt_transform, self.bandlimit = "bilinear", "softplus", None
            for name, x in s4d().items():
                if name.startswith("kernel."):
                    self.register_buffer(name.removeprefix("kernel."), torch.tensor(x))

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel, self.D = Kernel(), torch.nn.Parameter(torch.tensor(s4d()["D"]))

    layers = load(torch.nn.Sequential(torch.nn.Linear(4, 4), Block()))
    assert list(layers) == ["1"]
    assert said(layers["1"], "disc") == ("bilinear", "file")
    assert said(layers["1"], "dt_transform") == ("softplus", "file")


def test_names_that_nothing_can_use():
    with pytest.raises(
        ValueError, match="no layer that was found can use 'dt_transfrom'; what can be assumed of them is bandlimit, disc, "
    ):
        load(s4d(), assume={"dt_transfrom": "exp"})
    with pytest.raises(ValueError, match="can use 'disc'; what can be assumed of them is nothing"):
        load(lru(), assume={"disc": "zoh"})
    both = below("a.", lru()) | below("b.", s4d())
    layers = load(both, assume={"disc": "bilinear"})  # of use to one of them
    assert said(layers["b"], "disc") == ("bilinear", "caller")
    assert not layers["a"].assumptions


def test_values_that_no_option_has():
    with pytest.raises(ValueError, match=r"assume: disc must be one of 'zoh', 'bilinear', 'dss', got 'tustin'"):
        load(below("a.", s4d()), assume={"disc": "tustin"})
    with pytest.raises(CheckpointError, match=r"dt_transform must be one of 'exp', .* got 'expo' from the caller"):
        load(s4d(), config={"dt_transform": "expo"})


def test_what_the_original_code_has_for_good():
    minimal = {"kernel.log_dt": np.ones(4), "kernel.C": np.ones((4, 3, 2)), "kernel.log_A_real": np.ones((4, 3)), "D": np.ones(4)}
    minimal["kernel.A_imag"] = np.ones((4, 3))
    with pytest.raises(CheckpointError, match=r"minimal S4D has disc = 'zoh' for good, got assume=\{'disc': 'bilinear'\}"):
        load(minimal, assume={"disc": "bilinear"})
    (layer,) = load(minimal, assume={"disc": "zoh"}).values()
    assert said(layer, "disc") == ("zoh", "original default")


# what is no layer


def test_an_unknown_family():
    with pytest.raises(KeyError, match="unknown family 's7'; there are s4, s4d, s5, lru, s6, rg_lru"):
        load(lru(), family="s7")
    with pytest.raises(CheckpointError, match="no recurrent layer was recognized"):
        load(lru(), family="s6")


def test_nothing_found_says_what_came_near():
    t = below("layers.0.", lru())
    del t["layers.0.gamma_log"]
    with pytest.raises(CheckpointError, match=r"layers\.0: looks like minimal-LRU, but lacks 'gamma_log'.* pass a layout"):
        load(t)
    with pytest.raises(CheckpointError, match=r"no recurrent layer was recognized among 'weight'; for a module with names of its own"):
        load({"weight": np.ones((2, 2))})
    t = below("layers.0.", lru()) | {"layers.0.B_re": np.ones((6, 5))}
    with pytest.raises(
        CheckpointError, match=r"looks like minimal-LRU, but parameter 'B_.*' of family 'lru' must have shape \(N, H\), got"
    ):
        load(t)
    with pytest.raises(CheckpointError, match="looks like state-spaces/s4 v4, diagonal, but its shapes do not fit each other"):
        load(s4d(channels=3, outputs=1))  # and not its kernel alone


def test_a_damaged_layer_beside_a_whole_one():
    t = below("layers.0.", lru()) | below("layers.1.", lru())
    del t["layers.1.theta_log"]
    with pytest.warns(UserWarning, match="not every layer could be loaded"):
        assert list(load(t)) == ["layers.0"]
    with find_layers(t) as found:
        assert found.problems == ("layers.1: looks like minimal-LRU, but lacks 'theta_log'",)


def test_two_spellings_of_one_name():
    t = lru()
    both = {f"a/{name}": x for name, x in t.items()} | {"a.D": t["D"] + 1}
    with find_layers(both) as found:
        (layer,) = found
        assert found.problems == ("'a.D' and 'a/D' are one name; the first is read",)
    np.testing.assert_array_equal(layer.params["D"], t["D"])


def test_numbers_that_are_none():
    t = below("layers.3.", lru())
    t["layers.3.D"] = np.array([1.0, np.nan, 2.0, 3.0])
    with pytest.raises(CheckpointError, match=r"layer 'layers\.3' \(minimal-LRU\): parameter 'D' of layer 'layers\.3' must be finite"):
        load(t)


# layouts of one's own


def test_a_module_with_other_names():
    ours = {"A_log": "decay.log_rate", "in_proj.weight": "into.weight"}
    stored = {ours.get(name, name): x for name, x in mamba().items()}
    with pytest.raises(CheckpointError, match="no recurrent layer was recognized"):
        load(below("blocks.0.", stored))
    layers = load(below("blocks.0.", stored), layouts=[MAMBA.with_names(ours)])
    assert list(layers) == ["blocks.0"]
    u = np.ones((3, 4))
    (plain,) = load(mamba()).values()
    np.testing.assert_array_equal(layers["blocks.0"].along(u).B, plain.along(u).B)
    assert said(layers["blocks.0"], "conv_padding") == ("causal", "original default")
    with pytest.raises(KeyError, match=r"layout 'Mamba' has no tensor A; it has A_log, D, in_proj.weight"):
        MAMBA.with_names({"A": "x"})


def test_names_in_the_conditions_of_a_layout_are_renamed_too():
    renamed = V4.with_names({"kernel.C": "readout", "D": "skip"}, title="ours")
    stored = {{"kernel.C": "readout", "D": "skip"}.get(name, name): x for name, x in s4d(channels=2, outputs=1).items()}
    assert list(load(stored, layouts=[renamed])) == ["", ":reverse"]
    with pytest.raises(CheckpointError, match="looks like ours, but its shapes do not fit each other"):
        load(stored | {"readout": np.ones((3, 4, 3, 2))}, layouts=[renamed])


def halves(tensors, options):
    return [Part(params={**tensors, "D": tensors["D"] / 2}, notes=("D halved",))]


def test_a_layout_of_ones_own_comes_first():
    own = Layout(
        title="ours", family="lru", shapes={name: " ".join("NH"[n == 4] for n in x.shape) for name, x in lru().items()}, decode=halves
    )
    (layer,) = load(lru(), layouts=[own]).values()
    np.testing.assert_array_equal(layer.params["D"], lru()["D"] / 2)
    assert layer.notes == ("D halved",)


def test_layouts_travel_to_other_processes():
    for family in FAMILIES.values():
        for layout in family.layouts:
            assert pickle.loads(pickle.dumps(layout)).shapes == layout.shapes
