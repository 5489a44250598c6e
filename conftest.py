"""Names that the doctests of the package may use without importing them."""

import numpy as np
import pytest

import ssm_analysis
from ssm_analysis.systems import DiagonalLTV, DiagonalSSM, RealDiagonalSSM, StateSpace

SYSTEMS = (DiagonalSSM, RealDiagonalSSM, StateSpace, DiagonalLTV)


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace.update(np=np, ssm=ssm_analysis, **{system.__name__: system for system in SYSTEMS})
