"""Time-varying analyses use nothing outside the Array API standard: everything runs on array-api-strict, with numpy's answers."""

from dataclasses import fields, is_dataclass

import array_api_strict as strict
import numpy as np
import pytest

from ssm_analysis.analyses.along.attention import contributions, hidden_attention, mean_distance
from ssm_analysis.analyses.along.exponents import bohl_exponents, lyapunov_exponents
from ssm_analysis.analyses.along.forgetting import receptive_field, retention
from ssm_analysis.analyses.along.frozen_response import frozen_response
from ssm_analysis.analyses.along.gain import energy_gain
from ssm_analysis.analyses.along.gramians import controllability_gramian_at, hsv_at, observability_gramian_at
from ssm_analysis.analyses.along.growth import state_growth
from ssm_analysis.analyses.along.poles import effective_poles, joined_channels, joined_tokens, quantiles
from ssm_analysis.analyses.along.state_size import effective_state_size
from ssm_analysis.analyses.along.transitions import driven_by, log_transition
from ssm_analysis.xp import is_array, to_numpy
from tests.support.families_table import LAYERS, SELECTIVE, an_input
from tests.support.ltv_table import LONGER, LTV

ANALYSES = {
    "hidden_attention": hidden_attention,
    "contributions": contributions,
    "mean_distance": mean_distance,
    "receptive_field": receptive_field,
    "retention": lambda sys: retention(sys, at=(2, -1)),
    "log_transition": lambda sys: log_transition(sys, start=1, stop=4),
    "lyapunov_exponents": lyapunov_exponents,
    "bohl_exponents": lambda sys: bohl_exponents(sys, window=3),
    "controllability_gramian_at": lambda sys: controllability_gramian_at(sys, 4),
    "observability_gramian_at": lambda sys: observability_gramian_at(sys, 4),
    "hsv_at": lambda sys: hsv_at(sys, (2, 7)),
    "effective_state_size": effective_state_size,
    "effective_poles": effective_poles,
    "joined": lambda sys: joined_tokens([effective_poles(sys), effective_poles(sys)]),
    "openness": lambda sys: effective_poles(sys).openness(),
    "margin_edges": lambda sys: effective_poles(sys).margin_edges,
    "quantiles": lambda sys: quantiles(effective_poles(sys).by_token, effective_poles(sys).edges, (0.2, 0.5)),
    "energy_gain": lambda sys: energy_gain(sys).gain,
    "frozen_response": lambda sys: frozen_response(sys, 1, sys.xp.asarray([0.1, 2.0], dtype=sys.xp.float64)),
    "state_growth": lambda sys: state_growth(sys, real_ones(sys)),
    "driven_by": lambda sys: driven_by(sys, real_ones(sys)).B,
}


@pytest.fixture(autouse=True)
def _no_data_dependent_shapes():
    with strict.ArrayAPIStrictFlags(api_version="2024.12", data_dependent_shapes=False):
        yield


def real_ones(sys):
    return sys.xp.ones((sys.length, *sys.batch_shape, sys.ninputs), dtype=sys.B.dtype)


def in_strict(x):
    return strict.asarray(np.array(x))


def arrays(found):
    values = [getattr(found, f.name) for f in fields(found)] if is_dataclass(found) else [found]
    return [x for x in values if is_array(x)]


@pytest.mark.parametrize("analysis", ANALYSES)
@pytest.mark.parametrize("name", LONGER)
def test_the_same_answers(analysis, name):
    f, sys = ANALYSES[analysis], LTV[name]
    for found, want in zip(arrays(f(sys.map(in_strict))), arrays(f(sys)), strict=True):
        assert type(found).__module__.startswith("array_api_strict")
        np.testing.assert_allclose(to_numpy(found), want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SELECTIVE)
def test_windows_of_channels(name):
    layer = LAYERS[name]()
    u = an_input(layer, 5)
    found = joined_channels(effective_poles(sys) for sys in layer.map(in_strict).windows(in_strict(u), channels=2))
    np.testing.assert_allclose(to_numpy(found.mean_rate), effective_poles(layer.along(u)).mean_rate, rtol=1e-10)
    last = layer.map(in_strict).along(in_strict(u), channels=slice(1, None)) if len(layer.along(u)) > 1 else None
    if last is not None:
        np.testing.assert_allclose(to_numpy(last.B), layer.along(u).B[:, 1:], rtol=1e-10)
