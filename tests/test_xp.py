"""What the standard lacks, on numpy and torch: values, dtypes and gradients."""

import mpmath
import numpy as np
import pytest
import torch

from ssm_analysis import xp as helpers

X = np.array([[0.0, -1.5, 2.0], [1e-9, 3.0, -0.25]])
Z = X + 1j * np.array([[0.0, 2.0, -1.0], [1e-9, -3.0, 4.0]])
LIBRARIES = pytest.mark.parametrize("library", [np.asarray, torch.tensor], ids=["numpy", "torch"])


@LIBRARIES
@pytest.mark.parametrize("x", [X, Z, X.astype(np.float32), Z.astype(np.complex64)], ids=lambda x: str(x.dtype))
def test_elementwise_helpers(library, x):
    a = library(x)
    for found, want in [
        (helpers.real(a), np.real(x)),
        (helpers.imag(a), np.imag(x)),
        (helpers.conj(a), np.conj(x)),
        (helpers.adjoint(a), np.conj(np.matrix_transpose(x))),
        (helpers.abs2(a), np.real(x * np.conj(x))),
        (helpers.to_complex(a), x.astype(np.complex128 if x.dtype.itemsize == 8 * (1 + np.iscomplexobj(x)) else np.complex64)),
        (helpers.double(a), x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)),
        (helpers.diag(a), np.stack([np.diag(row) for row in x])),
        (helpers.eye(2, like=a), np.eye(2, dtype=x.dtype)),
        (helpers.arange(2, 5, like=a), np.arange(2, 5, dtype=np.real(x).dtype)),
        (helpers.complex_from(helpers.real(a), helpers.imag(a)), x + 0j),
        (helpers.matmul(a, library(np.ones((3, 1)))), x @ np.ones((3, 1))),
        (helpers.matmul(library(1j * np.ones((1, 2))), a), 1j * np.ones((1, 2)) @ x),
    ]:
        assert isinstance(found, type(a))
        assert str(found.dtype).endswith(str(want.dtype))
        np.testing.assert_allclose(helpers.to_numpy(found), want, rtol=1e-6 if x.dtype.itemsize < 8 else 1e-15)


@LIBRARIES
def test_kinds(library):
    assert helpers.is_array(library(X))
    assert not helpers.is_array(X.tolist())
    assert helpers.is_complex(library(Z))
    assert not helpers.is_complex(library(X))
    assert helpers.is_floating(library(X))
    assert helpers.is_floating(library(Z))
    assert not helpers.is_floating(library(X.astype(int)))
    assert helpers.all_finite(library(Z))
    for value in (np.nan, np.inf, complex(0, np.nan)):
        assert not helpers.all_finite(library(np.array([1.0, value])))


@LIBRARIES
def test_expm1_keeps_small_arguments(library):
    """Relative to |e^z - 1|, for |z| from 1e-15 to 10, where cos(y) - 1 cancels too."""
    z = (10.0 ** np.arange(-15, 2))[:, None] * np.exp(1j * np.linspace(-3, 3, 13))
    with mpmath.workdps(40):
        exact = np.array([[complex(mpmath.expm1(mpmath.mpc(complex(x)))) for x in row] for row in z])
    np.testing.assert_allclose(helpers.to_numpy(helpers.expm1(library(z))), exact, rtol=2e-15)
    np.testing.assert_allclose(helpers.to_numpy(helpers.expm1(library(X))), np.expm1(X), rtol=1e-15)


def test_gradients():
    """abs2 at 0 and expm1, through which everything near the circle passes."""
    for x in (torch.tensor(X, requires_grad=True), torch.tensor(Z, requires_grad=True)):
        for f in (helpers.abs2, helpers.expm1, helpers.real, helpers.imag, helpers.conj, helpers.double, helpers.diag, helpers.adjoint):
            assert torch.autograd.gradcheck(f, x)
        assert torch.autograd.gradcheck(lambda x: helpers.matmul(x, torch.ones(3, 1, dtype=torch.float64)), x)


def test_stop_gradient_and_to_numpy_leave_the_graph():
    x = torch.tensor(Z, requires_grad=True)
    assert not helpers.stop_gradient(x).requires_grad
    assert helpers.stop_gradient(X) is X
    np.testing.assert_array_equal(helpers.to_numpy(x.conj()), np.conj(Z))
    assert helpers.to_numpy(X) is X


def test_freeze_leaves_the_callers_array_alone():
    x = X.copy()
    frozen = helpers.freeze(x)
    with pytest.raises(ValueError, match="read-only"):
        frozen[0, 0] = 1.0
    x[0, 0] = 5.0
    assert frozen[0, 0] == 5.0
    t = torch.tensor(X)
    assert helpers.freeze(t) is t
