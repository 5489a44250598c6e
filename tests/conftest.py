"""One thread per process, derandomized hypothesis, a seeded generator, names for doctests."""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import jaxtyping
import matplotlib as mpl
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

mpl.use("agg")
torch.set_num_threads(1)
settings.register_profile("suite", derandomize=True, deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


collect_ignore = ["benchmarks", "metrics", "support"]
"""What the tests share holds no tests of its own."""


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240325)


@pytest.fixture
def unchecked_annotations(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for users, for whom nothing checks shapes in signatures: our own messages are what they see."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
