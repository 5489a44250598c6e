"""Mamba, Mamba-2 and their relatives against the modules of transformers, built small and with random weights.

What the scan of each module is given and returns, before its gate, norm and output projection, is compared with the system of the
layer along the same input.
"""

import importlib
import warnings
from dataclasses import dataclass, field
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
import torch

from ssm_analysis import Layer, simulate
from ssm_analysis.families import Assumption
from ssm_analysis.xp import to_numpy
from tests.support.families_table import (
    FRESH,
    LAYERS,
    an_input,
    exported,
    fresh,
    output,
    trained,
    with_heads,
    with_norms,
    with_options,
    with_params,
    without,
)

L, D_MODEL = 45, 12
PRECISIONS = {"float32": (torch.float32, 1e-5), "float64": (torch.float64, 1e-10)}


@dataclass(frozen=True)
class Relative:
    """Where a mixer is found in transformers, a small configuration, and what of it the parameters do not tell."""

    family: str
    package: str
    mixer: str
    sizes: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)


MAMBA = {"hidden_size": D_MODEL, "state_size": 5, "expand": 2, "conv_kernel": 4, "time_step_rank": 3, "num_hidden_layers": 1}
JAMBA = {"hidden_size": D_MODEL, "mamba_d_state": 5, "mamba_expand": 2, "mamba_d_conv": 4, "mamba_dt_rank": 3}
MAMBA2 = {"hidden_size": D_MODEL, "num_heads": 6, "head_dim": 4, "state_size": 5, "n_groups": 2, "chunk_size": 16, "num_hidden_layers": 1}
BAMBA = {"hidden_size": D_MODEL, "mamba_n_heads": 6, "mamba_d_head": 4, "mamba_d_state": 5, "mamba_n_groups": 2, "mamba_chunk_size": 16}
FALCON_H1 = BAMBA | {"num_hidden_layers": 1, "vocab_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1}
MULTIPLIERS = {"ssm_in_multiplier": 1.25, "ssm_multipliers": [0.25, 0.5, 0.75, 1.5, 0.625]}  # kept by transformers in 32 bits
NEMOTRON = {"hidden_size": D_MODEL, "mamba_num_heads": 6, "mamba_head_dim": 4, "ssm_state_size": 5, "n_groups": 2, "chunk_size": 16}
ZAMBA2 = {"hidden_size": D_MODEL, "n_mamba_heads": 8, "mamba_d_state": 5, "mamba_ngroups": 4, "chunk_size": 16, "mamba_expand": 2}

RELATIVES = {
    "mamba": Relative("s6", "mamba", "MambaMixer", MAMBA),
    "mamba_biases": Relative("s6", "mamba", "MambaMixer", MAMBA | {"use_bias": True}),
    "falcon_mamba": Relative(
        "s6", "falcon_mamba", "FalconMambaMixer", MAMBA | {"mixer_rms_eps": 1e-2, "use_bias": True}, {"mixer_rms_eps": 1e-2}
    ),
    "jamba": Relative("s6", "jamba", "JambaMambaMixer", JAMBA | {"rms_norm_eps": 1e-2}, {"mixer_rms_eps": 1e-2}),
    "zamba": Relative("s6", "zamba", "ZambaMambaMixer", JAMBA | {"n_mamba_heads": 3}),
    "zamba_one_head": Relative("s6", "zamba", "ZambaMambaMixer", JAMBA | {"n_mamba_heads": 1, "mamba_proj_bias": True}),
    "mamba2": Relative("mamba2", "mamba2", "Mamba2Mixer", MAMBA2, {"n_groups": 2}),
    "mamba2_limits": Relative(
        "mamba2", "mamba2", "Mamba2Mixer",
        MAMBA2 | {"time_step_limit": [0.3, 1.2], "use_conv_bias": False, "use_bias": True, "n_groups": 3},
        {"n_groups": 3, "time_step_limit": [0.3, 1.2]},
    ),
    "bamba": Relative(
        "mamba2", "bamba", "BambaMixer", BAMBA | {"mamba_n_groups": 1, "time_step_limit": [0.3, 1.2]}, {"time_step_limit": [0.3, 1.2]}
    ),
    "granite": Relative(
        "mamba2", "granitemoehybrid", "GraniteMoeHybridMambaLayer", BAMBA | {"mamba_n_groups": 6, "mamba_proj_bias": True}, {"n_groups": 6}
    ),
    "falcon_h1": Relative(
        "mamba2", "falcon_h1", "FalconH1Mixer",
        FALCON_H1 | MULTIPLIERS | {"mamba_d_ssm": 24, "mamba_proj_bias": True, "mamba_rms_norm": False}, {"n_groups": 2, **MULTIPLIERS},
    ),
    "nemotron_h": Relative(
        "mamba2", "nemotron_h", "NemotronHMamba2Mixer", NEMOTRON | {"time_step_min": 0.6}, {"n_groups": 2, "time_step_limit": (0.6, np.inf)}
    ),
    "zamba2": Relative(
        "mamba2", "zamba2", "Zamba2MambaMixer", ZAMBA2 | {"time_step_min": 0.6}, {"n_groups": 4, "time_step_limit": (0.6, np.inf)}
    ),
}  # fmt: skip
NOT_OF_THE_CORE = ("out_proj", "norm.")
SCANS = {"s6": "mamba_selective_scan", "mamba2": "mamba2_chunk_scan"}


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def package(relative):
    return importlib.import_module(f"transformers.models.{relative.package}.modeling_{relative.package}")


def randomized(module):
    """Random parameters, with steps on both sides of the limits."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) / 2)
    return module.eval()


def build(relative):
    modeling = package(relative)
    config = next(getattr(modeling, name) for name in vars(modeling) if name.endswith("Config") and name != "PreTrainedConfig")
    if relative.mixer == "FalconH1Mixer":  # the model gives its mixers their mup_vector
        return randomized(modeling.FalconH1Model(config(**relative.sizes)).layers[0].mamba)
    early = {"initialize_mixer_weights": False} if relative.package == "falcon_mamba" else {}  # it would before its norms are there
    return randomized(getattr(modeling, relative.mixer)(config(**relative.sizes), layer_idx=0, **early))


def model_of(layer):
    return importlib.import_module(f"ssm_analysis.families.{layer.family}.model")


def as_layer(relative, module):
    params = {name: x.detach().numpy() for name, x in module.state_dict().items() if not name.startswith(NOT_OF_THE_CORE)}
    options = {name: Assumption(value=value, source="file") for name, value in relative.options.items()}
    return Layer(family=relative.family, params=params, assumptions=options)


def double_throughout(monkeypatch):
    """The modules cast parts of a double model to single."""
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x)
    monkeypatch.setattr(torch, "float32", torch.float64)


def scanned(relative, module, u, monkeypatch):
    """Input and output of the scan, (L, *batch), and its C, (L, heads or groups, n): Zamba scans head by head, the others once.

    The gate that some scans apply at their end is left out.
    """
    modeling, name, seen = package(relative), SCANS[relative.family], []
    scan = getattr(modeling, name)

    def spy(x, dt, A, B, C, z=None, **keywords):
        y = scan(x, dt, A, B, C, z=None, **keywords)
        seen.append((x[0], y[0], C))
        return scan(x, dt, A, B, C, z=z, **keywords)

    monkeypatch.setattr(modeling, name, spy)
    with torch.no_grad():
        module(torch.tensor(u)[None])
    x, y, C = (torch.concat(parts).numpy() for parts in zip(*seen, strict=True))
    return (x.T, y.T, np.moveaxis(C, -1, 0)) if relative.family == "s6" else (x, y, C[0])


def relative_error(y, want):
    """The largest of the channels, each relative to its largest number."""
    assert y.shape == want.shape
    return np.max(np.max(np.abs(y - want), axis=0) / np.max(np.abs(want), axis=0))


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", RELATIVES)
def test_the_scan_of_transformers(name, precision, monkeypatch):
    relative, (dtype, tolerance) = RELATIVES[name], PRECISIONS[precision]
    module = build(relative)
    if precision == "float64":
        double_throughout(monkeypatch)
    module = module.to(dtype)
    layer = as_layer(relative, module)
    u = np.random.default_rng(2).standard_normal((L, D_MODEL)).astype(precision)
    x, y, C = scanned(relative, module, u, monkeypatch)
    assert x.dtype == y.dtype == u.dtype
    sys, driving = layer.along(u), layer.core_input(u)
    assert sys.batch_shape == x.shape[1:]
    assert sys.B.dtype == driving.dtype == u.dtype
    found = model_of(layer).recurrence(layer.params, u, layer.options)
    found_C = found.C[..., 0, :].reshape(L, -1, found.nstates)  # a shift of a diagonal factor between B and C would not show in y
    errors = {
        "C": relative_error(found_C, np.repeat(C, found_C.shape[1] // C.shape[1], axis=1)),
        "core_input": relative_error(driving[..., 0], x),
        "along": relative_error(simulate(sys, driving)[..., 0], y),
        "reference": relative_error(layer.reference(u)[..., 0], y),
    }
    assert max(errors.values()) < tolerance, errors


def test_the_limits_bind_in_these_configurations():
    """Else the test above would not see them."""
    for name in ("mamba2_limits", "bamba", "nemotron_h", "zamba2"):
        layer = as_layer(RELATIVES[name], build(RELATIVES[name]))
        u = an_input(layer, L).astype(np.float32)
        rate = np.exp(layer.params["A_log"])
        free, clamped = (-x.along(u).log_poles[:, :, 0, 0] / rate for x in (with_options(layer, time_step_limit=(0.0, np.inf)), layer))
        low, high = layer.options.time_step_limit
        for below_or_above in [free < low, *([free > high] if high < np.inf else [])]:
            assert 0.05 < np.mean(below_or_above) < 0.95
        assert np.min(clamped) >= low * (1 - 1e-6)
        assert np.max(clamped) <= high * (1 + 1e-6)


# S6: laws of its relatives


def test_unit_weights_are_no_weights():
    layer = trained(fresh("s6", d_model=D_MODEL))
    u = an_input(layer, 12)
    np.testing.assert_array_equal(output(with_norms(layer), u), output(with_options(layer, mixer_rms_eps=0.01), u))
    assert np.max(np.abs(output(with_norms(layer), u) - output(layer, u))) > 1e-2


def test_normalized_layers_do_not_see_the_size_of_x_proj():
    layer = with_options(trained(fresh("s6", d_model=D_MODEL)), mixer_rms_eps=0.0)
    u = an_input(layer, 12)
    larger = with_params(layer, x_proj__weight=7 * layer.params["x_proj.weight"])
    np.testing.assert_allclose(output(larger, u), output(layer, u), rtol=1e-11, atol=1e-13)


def test_one_head_of_zamba_is_mamba():
    layer = trained(fresh("s6", d_model=D_MODEL))
    u = an_input(layer, 12)
    np.testing.assert_array_equal(output(with_heads(layer, heads=1), u), output(layer, u))


def test_heads_of_zamba_do_not_see_each_other():
    layer = trained(with_heads(fresh("s6", d_model=D_MODEL), heads=3))
    u, other = an_input(layer, 12), np.array(layer.params["x_proj_weight"])
    other[1] += 1
    changed = np.max(np.abs(output(with_params(layer, x_proj_weight=other), u) - output(layer, u)), axis=(0, 2))
    assert np.all((changed > 0) == (np.arange(24) // 8 == 1))


# all of them


@pytest.mark.parametrize("name", [name for name in FRESH if name.startswith(("mamba2", "s6"))])
def test_the_recurrence_is_the_system_in_the_other_convention(name):
    layer = LAYERS[name]()
    u = an_input(layer, 8)
    found = model_of(layer).recurrence(layer.params, u, layer.options)
    sys = layer.along(u)
    for axis in sys.AXES:
        np.testing.assert_allclose(getattr(found.system(), axis), getattr(sys, axis), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(simulate(found, layer.core_input(u)), output(layer, u), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in FRESH if name.startswith(("mamba2", "s6"))])
def test_nothing_outside_the_array_standard(name):
    layer = LAYERS[name]()
    u = an_input(layer, 8)
    with strict.ArrayAPIStrictFlags(api_version="2024.12", data_dependent_shapes=False):
        twin, u_strict = layer.map(lambda x: strict.asarray(np.array(x))), strict.asarray(u)
        sys, want = exported(twin, u_strict), exported(layer, u)
        for axis in want.AXES:
            np.testing.assert_allclose(to_numpy(getattr(sys, axis)), getattr(want, axis), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(to_numpy(twin.core_input(u_strict)), layer.core_input(u), rtol=1e-12, atol=1e-15)


# what is refused


@pytest.mark.parametrize("eps", [-1e-6, np.inf, np.nan])
def test_the_epsilon_of_s6_is_checked(eps):
    with pytest.raises(ValueError, match=f"mixer_rms_eps must be a number from 0 on, got {eps!r}"):
        with_options(fresh("s6"), mixer_rms_eps=eps)


def test_norm_weights_come_together_and_with_an_epsilon():
    layer = with_norms(fresh("s6"))
    u = an_input(layer, 3)
    with pytest.raises(
        KeyError, match=r"an S6 with layer norms needs all of dt_layernorm.weight, .*got dt_layernorm.weight, c_layernorm.weight"
    ):
        without(layer, "b_layernorm.weight").along(u)
    with pytest.raises(ValueError, match=r"needs mixer_rms_eps \(Jamba's rms_norm_eps, by default 1e-6\), got None"):
        with_options(layer, mixer_rms_eps=None).along(u)


def test_heads_of_zamba_cover_the_width():
    layer = with_heads(fresh("s6"), heads=2)
    p = {name.replace(".", "__"): x[:1] for name, x in layer.params.items() if "in_proj" not in name and "conv1d" not in name}
    with pytest.raises(ValueError, match="the heads of an S6 must cover its width d_inner = 8, got 1 heads of 4 channels"):
        with_params(layer, **p).along(an_input(layer, 3))


def test_mambas_names_and_zambas_do_not_mix():
    layer = with_heads(fresh("s6"), heads=2)
    with pytest.raises(KeyError, match=r"unknown x_proj.weight; wanted .*x_proj_weight"):
        with_params(layer, x_proj__weight=np.ones((2, 2))).along(an_input(layer, 3))
