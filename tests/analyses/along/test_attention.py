"""The operator as attention, retention and receptive field: against products written out, the scan of transformers differentiated,
and time-invariant systems."""

import tracemalloc
import warnings

import numpy as np
import pytest
import torch

from ssm_analysis import DiagonalLTV, Layer, markov_parameters, simulate
from ssm_analysis.analyses.along.attention import contributions, hidden_attention, mean_distance
from ssm_analysis.analyses.along.forgetting import receptive_field, retention
from ssm_analysis.analyses.along.transitions import driven_by
from ssm_analysis.analyses.gramians.energy import horizon
from tests.support.families_table import LAYERS, SELECTIVE, an_input
from tests.support.ltv_table import LONGER, LTV, constant, entries, operator, rescaled
from tests.support.systems_table import STABLE, in_torch, random_fields

MANY = (0, 4, -1, -3)


@pytest.mark.parametrize("name", LTV)
def test_the_matrix_is_the_operator(name):
    sys = LTV[name]
    found = hidden_attention(sys)
    assert found.shape == (sys.length, sys.length, *sys.batch_shape, sys.noutputs, sys.ninputs)
    for index in entries(sys):
        np.testing.assert_allclose(found[(slice(None), slice(None), *index)], operator(sys, index), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", LTV)
def test_its_rows_times_the_input_are_the_output(name):
    sys, rng = LTV[name], np.random.default_rng(2)
    u = rng.normal(size=(sys.length, *sys.batch_shape, sys.ninputs))
    y = np.sum(hidden_attention(sys) @ u[None, ..., None], axis=1)[..., 0]
    np.testing.assert_allclose(y, simulate(sys, u), rtol=1e-11, atol=1e-12)
    shares = hidden_attention(driven_by(sys, u))[..., 0]  # what each token contributes: adds up by itself
    np.testing.assert_allclose(np.sum(shares, axis=1), simulate(sys, u), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", LONGER)
def test_chosen_rows_are_rows_of_the_whole(name):
    sys = LTV[name]
    np.testing.assert_allclose(hidden_attention(sys, at=MANY), hidden_attention(sys)[list(MANY)], rtol=1e-13)


@pytest.mark.parametrize("name", ["complex_siso", "complex_mimo", "complex_batch", "diagonal_real_siso"])
def test_of_a_constant_system_the_diagonals_are_markov_parameters(name):
    sys = STABLE[name]
    K, T = markov_parameters(sys, 9), hidden_attention(constant(sys, 9))
    for t in range(9):
        for s in range(t + 1):
            np.testing.assert_allclose(T[t, s], np.moveaxis(K, -3, 0)[t - s], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", SELECTIVE)
def test_of_layers(name):
    layer = LAYERS[name]()
    u = an_input(layer, 12)
    y = np.sum(hidden_attention(layer.along(u)) @ layer.core_input(u)[None, ..., None], axis=1)[..., 0]
    want = layer.reference(u)
    np.testing.assert_allclose(y, want, rtol=1e-8, atol=1e-10 * np.max(np.abs(want)))


def test_it_is_the_jacobian_of_the_scan_of_transformers(monkeypatch):
    """Of a MambaMixer with random weights: d scan output / d scan input, the step and B, C held."""
    from transformers import MambaConfig
    from transformers.models.mamba import modeling_mamba

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = modeling_mamba.MambaMixer(MambaConfig(hidden_size=4, state_size=3, num_hidden_layers=1, time_step_rank=2), layer_idx=0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x)  # the module casts parts of a double model to single
    monkeypatch.setattr(torch, "float32", torch.float64)
    module, u, scan, seen = module.to(torch.float64).eval(), torch.randn(1, 7, 4, generator=generator).double(), [], []
    scan.append(modeling_mamba.mamba_selective_scan)

    def spy(x, dt, A, B, C, **keywords):
        seen.append((x, dt, A, B, C, {**keywords, "z": None, "return_last_state": False}))
        return scan[0](x, dt, A, B, C, **keywords)

    monkeypatch.setattr(modeling_mamba, "mamba_selective_scan", spy)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        module(u)
    x, dt, A, B, C, keywords = seen[0]

    def output(x):
        y = scan[0](x, dt, A, B, C, **keywords)
        return y[0] if isinstance(y, tuple) else y

    jacobian = torch.autograd.functional.jacobian(output, x)[0, :, :, 0]  # (channel, t, channel, s)
    names = ("A_log", "D", "in_proj.weight", "conv1d.weight", "conv1d.bias", "x_proj.weight", "dt_proj.weight", "dt_proj.bias")
    params = {name: module.state_dict()[name].numpy() for name in names}
    found = hidden_attention(Layer(family="s6", params=params).along(u[0].numpy()))[..., 0, 0]
    for c in range(8):
        np.testing.assert_allclose(found[:, :, c], jacobian[c, :, c], rtol=1e-9, atol=1e-12)
        assert float(jacobian[c, :, [i for i in range(8) if i != c]].abs().max()) == 0  # the channels are systems of their own


# sizes, distances, fields


@pytest.mark.parametrize("name", LTV)
def test_distances_and_fields_are_those_of_the_written_out_operator(name):
    sys = LTV[name]
    at = range(sys.length)
    sizes, distance, field = contributions(sys, at=at), mean_distance(sys, at=at), receptive_field(sys, at=at, shares=(0.3, 0.8))
    for index in entries(sys):
        T = operator(sys, index)
        size = np.linalg.norm(T, axis=(2, 3))
        np.testing.assert_allclose(sizes[(slice(None), slice(None), *index)], size, rtol=1e-10, atol=1e-13)
        for t in at:
            lag = t - np.arange(t + 1)
            want = np.sum(size[t, : t + 1] * lag) / np.sum(size[t, : t + 1])
            np.testing.assert_allclose(distance[(t, *index)], want, rtol=1e-10)
            for k, share in enumerate((0.3, 0.8)):
                energy = size[t, : t + 1][::-1] ** 2
                passed = np.cumsum(energy) >= share * np.sum(energy)
                assert field[(t, *index, k)] == np.argmax(passed)


@pytest.mark.parametrize("name", ["complex_siso", "complex_mimo", "complex_batch", "diagonal_real_mimo", "complex_half_period"])
def test_the_field_of_a_constant_system_is_its_horizon(name):
    sys, shares = STABLE[name], (0.5, 0.9, 0.99)
    want = np.stack([horizon(sys, share=share) for share in shares], axis=-1)
    np.testing.assert_array_equal(receptive_field(constant(sys, 800), shares=shares)[0], want)


def test_the_mean_distance_of_one_mode():
    """sum k r^k / sum r^k = r / (1 - r), and one more because the state is read before the update."""
    one = np.ones((3000, 1, 1))
    sys = DiagonalLTV(log_poles=np.full((3000, 1), np.log(0.98)), B=one, C=one, D=0 * one)
    np.testing.assert_allclose(mean_distance(sys), [0.98 / 0.02 + 1], rtol=1e-12)


@pytest.mark.parametrize("name", LTV)
def test_retention_is_the_product_of_moduli(name):
    sys = LTV[name]
    found = retention(sys, at=range(sys.length))
    size = np.abs(np.exp(sys.log_poles))
    for t in range(sys.length):
        np.testing.assert_array_equal(found[t, t + 1 :], 0)
        for s in range(t + 1):
            np.testing.assert_allclose(found[t, s], np.prod(size[s + 1 : t + 1], axis=0), rtol=1e-12)


@pytest.mark.parametrize("f", [mean_distance, receptive_field, contributions])
@pytest.mark.parametrize("name", LONGER)
def test_coordinates_of_the_state_do_not_matter(f, name):
    np.testing.assert_allclose(f(rescaled(LTV[name]), at=MANY), f(LTV[name], at=MANY), rtol=1e-10)


@pytest.mark.parametrize("f", [mean_distance, receptive_field, contributions, retention, hidden_attention])
def test_members_of_a_batch_are_alone(f):
    sys = LTV["ltv_batch"]
    whole, axis = f(sys, at=MANY), 2 if f in (contributions, retention, hidden_attention) else 1
    for i in range(2):
        np.testing.assert_allclose(np.take(whole, i, axis=axis), f(sys[i], at=MANY), rtol=1e-13)
    np.testing.assert_allclose(np.flip(whole, axis=axis), f(sys[::-1], at=MANY), rtol=1e-13)


@pytest.mark.parametrize("f", [mean_distance, receptive_field, contributions, retention, hidden_attention])
@pytest.mark.parametrize("name", LONGER)
def test_torch_gives_the_same(f, name):
    found = f(in_torch(LTV[name]), at=MANY)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(found.numpy(), f(LTV[name], at=MANY), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("f", [mean_distance, contributions, retention, hidden_attention])
@pytest.mark.parametrize("complex_", [True, False])
def test_gradients(f, complex_):
    fields = {k: torch.tensor(x, requires_grad=True) for k, x in random_fields(5, 2, 1, 1, batch=(5,), complex_=complex_).items()}
    assert torch.autograd.gradcheck(lambda *x: f(DiagonalLTV(**dict(zip(fields, x, strict=True))), at=(2, -1)), tuple(fields.values()))


def test_single_precision_is_lifted():
    sys = LTV["ltv_real"]
    single = sys.map(lambda x: x.astype(np.float32))
    for f in (mean_distance, receptive_field, contributions, retention, hidden_attention):
        found = f(single)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, f(single.map(lambda x: x.astype(np.float64))))


def test_nothing_that_enters_has_no_distance():
    one = np.ones((3, 1, 1))
    sys = DiagonalLTV(log_poles=-one[..., 0], B=0 * one, C=one, D=0 * one)
    np.testing.assert_array_equal(mean_distance(sys), [np.nan])
    np.testing.assert_array_equal(receptive_field(sys), [[np.nan] * 3])


def test_a_share_that_is_just_reached_is_reached():
    one = np.ones((3, 1, 1))  # alpha[2] = (1, 1, 0): half of it one token back, all of it two
    sys = DiagonalLTV(log_poles=0 * one[..., 0], B=one, C=one, D=0 * one)
    np.testing.assert_array_equal(receptive_field(sys, shares=(0.25, 0.5, 0.75)), [[1.0, 1.0, 2.0]])


@pytest.mark.parametrize("f", [mean_distance, receptive_field, contributions, retention])
def test_memory_grows_with_the_text_not_with_its_square(f):
    rng = np.random.default_rng(0)
    L = 6000
    sys = DiagonalLTV(
        log_poles=-np.exp(rng.normal(size=(L, 2))), B=rng.normal(size=(L, 2, 1)), C=rng.normal(size=(L, 1, 2)), D=np.ones((1, 1))
    )
    tracemalloc.start()
    f(sys)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 8 * L  # L^2 numbers would be 6,000 of these


def test_tiny_weights_do_not_underflow():
    """Their squares would."""
    one = np.ones((30, 1, 1))
    sys = DiagonalLTV(log_poles=np.full((30, 1), -0.1), B=1e-200 * one, C=one, D=0 * one)
    np.testing.assert_array_equal(receptive_field(sys, shares=(0.5,)), [[4.0]])


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("f", [mean_distance, receptive_field, contributions, retention, hidden_attention])
def test_errors(f):
    sys = LTV["ltv_real"]
    for at in ((), (11,), (-12,), (0.5,), (True,), 3):
        with pytest.raises(ValueError, match=r"at must hold steps of the system, integers of 0..10 or from its end -1..-11, got"):
            f(sys, at=at)
    with pytest.raises(TypeError, match=f"{f.__name__} takes one of DiagonalLTV, got DiagonalSSM"):
        f(sys.frozen(0))


def test_shares_lie_between_0_and_1():
    for shares in ((), (0.0,), (0.5, 1.0)):
        with pytest.raises(ValueError, match="shares must lie between 0 and 1, both excluded, got"):
            receptive_field(LTV["ltv_real"], shares=shares)


def test_the_field_of_what_overflows_is_not_a_number():
    """Growing products leave double precision: no number of tokens is the answer."""
    one = np.ones((4, 1, 1))
    growing = DiagonalLTV(log_poles=np.full((4, 1), 1e3), B=one, C=one, D=0 * one)
    with np.errstate(all="ignore"):
        assert np.all(np.isnan(receptive_field(growing)))
