"""Small layers of every family, by name: each initialization and each option at least once, and no parameter at a round value.

>>> @pytest.mark.parametrize("name", LAYERS)
... def test_law(name):
...     layer = LAYERS[name]()

``LAYERS`` holds functions, so that nothing is made before a test asks for it. A family without an entry of its own takes part
with its defaults.
"""

import inspect
from dataclasses import replace

import numpy as np

from ssm_analysis import FAMILIES, simulate
from ssm_analysis.families import Assumption

D_MODEL, D_STATE = 4, 8


def fresh(family, *, d_model=D_MODEL, d_state=D_STATE, **keywords):
    """A fresh layer; families with one state per channel take no d_state."""
    init = FAMILIES[family].init
    sizes = {"d_model": d_model} | ({"d_state": d_state} if "d_state" in inspect.signature(init).parameters else {})
    return init(**sizes, **keywords)


def trained(layer, *, seed=7, scale=0.1):
    """Every parameter moved a little, as training does: a sign or an order that happens not to matter at 0 or 1 then does."""
    rng = np.random.default_rng(seed)

    def moved(x):
        noise = rng.standard_normal(x.shape)
        return x + scale * (noise + 1j * rng.standard_normal(x.shape) if np.iscomplexobj(x) else noise)

    return layer.map(moved)


def with_options(layer, **options):
    """The same parameters read with other options."""
    return replace(layer, assumptions={**layer.assumptions, **{k: Assumption(value=v, source="caller") for k, v in options.items()}})


def with_params(layer, **params):
    return replace(layer, params={**layer.params, **{name.replace("__", "."): x for name, x in params.items()}})


def without(layer, *names):
    return replace(layer, params={name: x for name, x in layer.params.items() if name not in names})


def with_step_per_state(layer):
    return with_params(layer, inv_dt=np.random.default_rng(3).uniform(-6, -2, layer.params["C"].shape[1:]))


def with_biases(layer):
    """S6 with the biases that are off by default."""
    rows = {"in_proj__bias": layer.params["in_proj.weight"].shape[0], "x_proj__bias": layer.params["x_proj.weight"].shape[0]}
    return with_params(layer, **{name: np.zeros(n) for name, n in rows.items()})


def with_norms(layer):
    """S6 as Jamba has it: learned weights behind the norms of r, B and C."""
    rank, n = layer.params["dt_proj.weight"].shape[1], layer.params["A_log"].shape[1]
    sizes = {"dt_layernorm__weight": rank, "b_layernorm__weight": n, "c_layernorm__weight": n}
    return with_options(with_params(layer, **{name: np.ones(size) for name, size in sizes.items()}), mixer_rms_eps=0.01)


def with_heads(layer, *, heads):
    """S6 under the names of Zamba: every head has the same x_proj of its own channels."""
    p = dict(layer.params)
    d_inner, n = p["A_log"].shape
    rows = p["in_proj.weight"].reshape(2, d_inner, -1).swapaxes(0, 1).reshape(2 * d_inner, -1)
    return replace(layer, params={
        "A_log": p["A_log"].reshape(heads, -1, n),
        "D": p["D"].reshape(heads, -1),
        "in_proj.weight": rows,
        "conv1d.weight": p["conv1d.weight"],
        "conv1d.bias": p["conv1d.bias"],
        "x_proj_weight": np.moveaxis(p["x_proj.weight"].reshape(-1, heads, d_inner // heads), 1, 0),
        "dt_proj_weight": p["dt_proj.weight"].reshape(heads, d_inner // heads, -1),
        "dt_proj_bias": p["dt_proj.bias"].reshape(heads, -1),
    })  # fmt: skip


def with_feed_through_per_channel(layer):
    """Mamba-2 with a D for each channel, and the bias of in_proj."""
    rows = layer.params["in_proj.weight"].shape[0]
    d_ssm = rows - layer.params["conv1d.weight"].shape[0] - layer.params["A_log"].shape[0]
    return with_options(with_params(layer, D=np.ones(d_ssm), in_proj__bias=np.zeros(rows)), D_has_hdim=True)


def with_block(layer, *, d_model=3, taps=4):
    """RG-LRU with the projection and the convolution in front of it."""
    W = layer.params["a_param"].shape[0]
    shapes = {"linear_x__weight": (W, d_model), "linear_x__bias": (W,), "conv_1d__w": (taps, W), "conv_1d__b": (W,)}
    rng = np.random.default_rng(5)
    return with_params(layer, **{name: rng.standard_normal(shape) for name, shape in shapes.items()})


FRESH = {
    "s4": lambda: fresh("s4"),
    "s4_legt": lambda: fresh("s4", measure="legt"),
    "s4_copies_and_channels": lambda: fresh("s4", n_ssm=2, channels=3),
    "s4d_legs": lambda: fresh("s4d"),
    "s4d_lin": lambda: fresh("s4d", init="lin"),
    "s4d_inv": lambda: fresh("s4d", init="inv"),
    "s4d_real": lambda: fresh("s4d", init="real", d_state=5),
    "s4d_random": lambda: fresh("s4d", init="random", n_ssm=4),
    "s4d_bilinear": lambda: fresh("s4d", disc="bilinear"),
    "s4d_real_bilinear": lambda: fresh("s4d", init="real", disc="bilinear"),
    "s4d_copies_and_channels": lambda: fresh("s4d", n_ssm=2, channels=3),
    "s4d_step_per_state": lambda: with_step_per_state(fresh("s4d")),
    "s4d_softplus": lambda: with_options(fresh("s4d"), dt_transform="softplus", real_transform="softplus", imag_transform="softplus"),
    "s5": lambda: fresh("s5"),
    "s5_blocks": lambda: fresh("s5", blocks=2, C_init="lecun_normal"),
    "s5_bilinear": lambda: fresh("s5", discretization="bilinear", C_init="complex_normal"),
    "s5_all_modes": lambda: fresh("s5", conj_sym=False),
    "s5_clipped": lambda: with_params(fresh("s5", clip_eigs=True), Lambda_re=np.array([0.3, -0.5, 0.0, -2.0])),
    "s5_rescaled": lambda: with_options(fresh("s5"), step_rescale=2.0),
    "lru": lambda: fresh("lru"),
    "lru_ring": lambda: fresh("lru", r_min=0.9, r_max=0.999, max_phase=0.314),
    "s6": lambda: fresh("s6"),
    "s6_near_unit": lambda: fresh("s6", A_init="near_unit", expand=1, d_conv=1, dt_rank=3),
    "s6_centered": lambda: with_options(fresh("s6"), conv_padding="same"),
    "s6_offset": lambda: with_options(without(fresh("s6"), "conv1d.bias"), dt_offset=0.01),
    "s6_biases": lambda: with_biases(fresh("s6", d_conv=3)),
    "s6_falcon": lambda: with_options(fresh("s6"), mixer_rms_eps=0.01),
    "s6_jamba": lambda: with_norms(fresh("s6")),
    "s6_zamba": lambda: with_heads(fresh("s6"), heads=2),
    "rg_lru": lambda: fresh("rg_lru"),
    "rg_lru_heads": lambda: fresh("rg_lru", ring="a", heads=2),
    "rg_lru_block": lambda: with_block(fresh("rg_lru", heads=2)),
    "rg_lru_hawk": lambda: with_options(fresh("rg_lru"), c=4.0, epsilon=1e-6, reset_first=False),
    "mamba2": lambda: fresh("mamba2"),
    "mamba2_groups": lambda: with_options(fresh("mamba2", headdim=2, n_groups=2, A_init="arange"), time_step_limit=(0.01, 0.05)),
    "mamba2_channels": lambda: with_feed_through_per_channel(fresh("mamba2", headdim=4, expand=3, d_conv=2)),
    "mamba2_multipliers": lambda: with_options(
        without(fresh("mamba2", headdim=1), "conv1d.bias"), ssm_in_multiplier=1.5, ssm_multipliers=(0.5, 1.2, 0.7, 2.0, 0.6)
    ),
}
LAYERS = {name: (lambda make=make: trained(make())) for name, make in FRESH.items()}
LAYERS |= {name: (lambda name=name: trained(fresh(name))) for name in FAMILIES if name not in {made().family for made in FRESH.values()}}
TIME_INVARIANT = [name for name, make in LAYERS.items() if not make().time_varying]
SELECTIVE = [name for name in LAYERS if name not in TIME_INVARIANT]
GRADIENTS = {
    "s4": lambda: fresh("s4", d_model=2, d_state=4),
    "s4d": lambda: fresh("s4d", d_model=2, d_state=4),
    "s4d_bilinear": lambda: fresh("s4d", d_model=2, d_state=4, init="lin", disc="bilinear"),
    "s4d_real": lambda: fresh("s4d", d_model=2, d_state=2, init="real"),
    "s5": lambda: fresh("s5", d_model=2, d_state=4),
    "s5_bilinear": lambda: fresh("s5", d_model=1, d_state=4, discretization="bilinear", clip_eigs=True),
    "lru": lambda: fresh("lru", d_model=2, d_state=3, r_min=0.5),
    "s6": lambda: with_biases(fresh("s6", d_model=2, d_state=2, expand=1, d_conv=2)),
    "s6_jamba": lambda: with_norms(fresh("s6", d_model=2, d_state=2, expand=1, d_conv=2, dt_rank=2)),
    "s6_zamba": lambda: with_heads(fresh("s6", d_model=2, d_state=2, d_conv=1), heads=2),
    "rg_lru": lambda: fresh("rg_lru", d_model=2),
    "rg_lru_block": lambda: with_block(fresh("rg_lru", d_model=2, heads=2), d_model=1, taps=2),
    "mamba2": lambda: with_feed_through_per_channel(fresh("mamba2", d_model=2, d_state=2, headdim=2, n_groups=2, d_conv=1)),
}
GRADIENTS |= {name: (lambda name=name: fresh(name, d_model=2, d_state=4)) for name in FAMILIES if name not in GRADIENTS}
GRADIENTS = {name: (lambda make=make: trained(make())) for name, make in GRADIENTS.items()}


def d_model(layer):
    """Features of the input of a layer, read off its parameters."""
    for name, axis in (("in_proj.weight", 1), ("linear_x.weight", 1), ("D", -1), ("a_param", 0)):
        if name in layer.params:
            return layer.params[name].shape[axis]
    raise AssertionError(
        f"no width for family {layer.family!r}; add a parameter and its axis to d_model in tests/support/families_table.py"
    )


def an_input(layer, length, *, seed=11):
    return np.random.default_rng(seed).standard_normal((length, d_model(layer)))


def exported(layer, u):
    """The system of a layer, along ``u`` where it depends on it."""
    return layer.along(u) if layer.time_varying else layer.system()


def output(layer, u):
    return simulate(exported(layer, u), layer.core_input(u))
