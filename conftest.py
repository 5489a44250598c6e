"""Names that the doctests of the package may use without importing them."""

import numpy as np
import pytest

import ssm_analysis


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace.update(
        np=np,
        ssm=ssm_analysis,
        **{name: getattr(ssm_analysis.systems, name) for name in ("DiagonalSSM", "RealDiagonalSSM", "StateSpace", "DiagonalLTV")},
    )
