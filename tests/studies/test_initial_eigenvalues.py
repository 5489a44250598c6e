"""The numbers of the unit-disk figure: whose eigenvalues they are, what each panel says about itself, and that they are plain data."""

import json

import numpy as np
import pytest

from ssm_analysis import FAMILIES
from ssm_analysis.analyses.memory.lemma import memory
from ssm_analysis.cli.tables.families import initial_data
from ssm_analysis.families import PAPER
from ssm_analysis.studies.initialization import SAMPLE_LENGTH, initial_eigenvalues, summary
from ssm_analysis.systems import DiagonalSSM
from tests.support.every_family import SELECTIVE_FAMILIES, TIME_INVARIANT_FAMILIES
from tests.support.families_table import fresh


@pytest.fixture(scope="module")
def panels():
    return {panel.family: panel for panel in initial_eigenvalues(d_model=4, d_state=8, seed=2)}


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in PAPER])
def test_other_families_can_be_drawn_too(family):
    (panel,) = initial_eigenvalues([family], d_model=4, d_state=8, seed=2)
    assert panel.setting.endswith(", seed 2")
    assert all(np.all(series.log_poles.real < 0) for series in panel.series)
    if family == "mamba2":  # 8 channels in one head
        assert panel.setting == "8 channels, N = 8, Δ in [0.001, 0.1], seed 2"
        assert panel.condition == 8


def test_the_families_of_the_paper_are_there(panels):
    assert tuple(panels) == PAPER
    for family, panel in panels.items():
        assert panel.title == FAMILIES[family].title
        assert len(panel.series) == (2 if hasattr(FAMILIES[family], "along") else 1)


@pytest.mark.parametrize("family", [name for name in PAPER if name in TIME_INVARIANT_FAMILIES])
def test_the_eigenvalues_are_those_of_the_exported_system(panels, family):
    """Of the whole real system, both of each pair, and for the LRU the modes that it stores."""
    sys = FAMILIES[family].init(d_model=4, d_state=8, seed=2).system()
    want = sys.poles() if family == "lru" else np.linalg.eigvals(sys.to_dense().A)
    got = np.exp(panels[family].series[0].log_poles)
    assert got.size == np.size(want)
    distance = np.abs(got.reshape(-1)[:, None] - np.reshape(want, (1, -1)))
    tolerance = 1e-6 if family == "s4" else 1e-12  # numpy's eigenvalues of HiPPO are worth no more
    assert np.max(np.min(distance, axis=0)) < tolerance
    assert np.max(np.min(distance, axis=1)) < tolerance


@pytest.mark.parametrize("family", [name for name in PAPER if name in SELECTIVE_FAMILIES])
def test_selective_eigenvalues_are_those_at_the_last_token_of_the_stated_inputs(panels, family):
    layer = fresh(family, seed=2)
    for series, seed in zip(panels[family].series, (3, 4), strict=True):
        u = np.random.default_rng(seed).standard_normal((SAMPLE_LENGTH, 4))
        np.testing.assert_allclose(np.exp(np.sort(series.log_poles)), np.sort(layer.along(u).poles()[-1].ravel()), rtol=1e-12)
    assert panels[family].matrix == "A at token 32 of two random inputs, N(0, 1), seeds 3 and 4"
    assert [series.label for series in panels[family].series] == ["input 1", "input 2"]


@pytest.mark.parametrize(("family", "setting"), [
    ("s4", "4 channels, N = 8, Δ in [0.001, 0.1], seed 2"),
    ("s4d", "4 channels, N = 8, Δ in [0.001, 0.1], seed 2"),
    ("s5", "N = 8, Δ in [0.001, 0.1], seed 2"),
    ("lru", "N = 8, 0 ≤ r ≤ 1, phase ≤ 6.28, seed 2"),
    ("s6", "8 channels, N = 8, Δ in [0.001, 0.1], seed 2"),
    ("rg_lru", "4 channels, N = 1, 0.9 ≤ a⁸ ≤ 0.999, seed 2"),
])  # fmt: skip
def test_every_panel_states_its_setting(panels, family, setting):
    assert panels[family].setting == setting


def test_the_summary_takes_extremes_over_modes_and_means_over_channels():
    one = np.ones((2, 2, 1))
    sys = DiagonalSSM(log_poles=np.log([[0.5, 0.9], [0.99, 0.2]]), B=one, C=np.ones((2, 1, 2)), D=np.zeros((2, 1, 1)))
    found, got = memory(sys, lags=(1, 10)), summary(memory(sys, lags=(1, 10)))
    np.testing.assert_allclose([got.largest, got.margin], [0.99, 0.01], rtol=1e-12)
    np.testing.assert_allclose([got.time_constant, got.half_life], [-1 / np.log(0.99), -np.log(2) / np.log(0.99)], rtol=1e-12)
    assert got.lags == (1, 10)
    np.testing.assert_allclose(got.modes_beyond, [0.75, 0.25], rtol=1e-12)
    for name in ("residue_beyond", "energy_beyond"):
        np.testing.assert_allclose(getattr(got, name), np.mean(getattr(found, name), axis=0), rtol=1e-12)


def test_the_numbers_are_plain_and_complete(panels):
    """JSON without NaN: the residues of S4, which have no meaning, become null."""
    data = json.loads(json.dumps(initial_data(list(panels.values())), allow_nan=False))
    for entry, panel in zip(data, panels.values(), strict=True):
        assert entry["setting"] == panel.setting
        for found, series in zip(entry["series"], panel.series, strict=True):
            lam = np.exp(series.log_poles)
            np.testing.assert_array_equal(found["real"], lam.real)
            np.testing.assert_array_equal(found["imag"], lam.imag)
            np.testing.assert_array_equal(found["one_minus_abs"], -np.expm1(series.log_poles.real))
            assert found["memory"]["lags"] == [10, 100, 1000, 10000]
            assert len(found["memory"]["energy_beyond"]) == 4
    assert data[0]["series"][0]["memory"]["residue_beyond"] == [None] * 4
    assert all(isinstance(x, float) for x in data[1]["series"][0]["memory"]["residue_beyond"])


def test_the_seed_and_the_sizes_are_checked():
    with pytest.raises(ValueError, match="d_model must be a positive integer, got 0"):
        initial_eigenvalues(d_model=0)
    with pytest.raises(ValueError, match="d_state must be a positive integer, got -4"):
        initial_eigenvalues(["rg_lru"], d_state=-4)
    with pytest.raises(ValueError, match="seed must be a non-negative integer, got -1"):
        initial_eigenvalues(["lru"], seed=-1)
    with pytest.raises(KeyError, match="unknown family 'mamba'"):
        initial_eigenvalues(["mamba"])
