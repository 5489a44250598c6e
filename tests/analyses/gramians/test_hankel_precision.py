"""Hankel singular values far below the rounding of the largest, against python-flint with hundreds of digits."""

import flint
import numpy as np
import pytest

from ssm_analysis import DiagonalSSM, RealDiagonalSSM
from ssm_analysis.analyses.gramians.factors import controllability_factor
from ssm_analysis.analyses.gramians.hankel import hsv
from tests.support.systems_table import in_torch


def reference(sys, digits):
    """Roots of the eigenvalues of P Q from the closed forms of both, as decimal logarithms."""
    before, flint.ctx.dps = flint.ctx.dps, digits
    try:
        mu = [flint.acb(complex(x)) for x in sys.log_poles]
        B, C = (flint.acb_mat([[flint.acb(complex(x)) for x in row] for row in M]) for M in (sys.B, sys.C))
        n = len(mu)
        K = flint.acb_mat([[-1 / (mu[i] + mu[k].conjugate()).expm1() for k in range(n)] for i in range(n)])
        P, Q = B * B.conjugate().transpose(), C.conjugate().transpose() * C
        P = flint.acb_mat([[P[i, k] * K[i, k] for k in range(n)] for i in range(n)])
        Q = flint.acb_mat([[Q[i, k] * K[k, i] for k in range(n)] for i in range(n)])
        squares = (P * Q).eig(algorithm="approx")
        logs = [float((abs(x).mid().log() / flint.arb(10).log() / 2).mid()) for x in squares]
        return -np.sort(-np.array(logs))
    finally:
        flint.ctx.dps = before


def assert_exact(found, sys, *, digits, rtol):
    """Every value to ``rtol`` of its own size."""
    expected = reference(sys, digits)
    np.testing.assert_allclose(np.log10(found), expected, rtol=0, atol=max(rtol / np.log(10), 4e-16 * np.max(np.abs(expected))))


def s4d_real(n, rng, delta=0.01):
    """a = -1, ..., -n: real poles that crowd at 1."""
    return DiagonalSSM(log_poles=-delta * np.arange(1.0, n + 1), B=np.ones((n, 1)), C=rng.normal(size=(1, n)), D=np.zeros((1, 1)))


def arc(n, m, p, rng, *, width, kind=DiagonalSSM):
    """Poles on an arc next to 1, as in a trained LRU."""
    mu = np.log(rng.uniform(0.9, 0.999, n)) + 1j * rng.uniform(0, width, n)
    B, C = rng.normal(size=(n, m)) + 1j * rng.normal(size=(n, m)), rng.normal(size=(p, n)) + 1j * rng.normal(size=(p, n))
    return kind(log_poles=mu, B=B, C=C, D=np.zeros((p, m)))


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_s4d_real(rng, library):
    """64 values from 10 down to 10^-95."""
    sys = s4d_real(64, rng)
    found = hsv(sys if library == "numpy" else in_torch(sys))
    assert found[-1] < 1e-94
    assert_exact(np.asarray(found), sys, digits=250, rtol=1e-11)


@pytest.mark.parametrize("width", [np.pi / 10, 0.02])
def test_arc(rng, width):
    sys = arc(24, 1, 1, rng, width=width)
    assert_exact(hsv(sys), sys, digits=120, rtol=1e-11)


@pytest.mark.parametrize("width", [np.pi / 10, 0.02])
def test_pairs_of_a_real_system(rng, width):
    sys = arc(16, 1, 1, rng, width=width, kind=RealDiagonalSSM)
    assert hsv(sys).shape == (32,)
    assert_exact(hsv(sys), sys.expand(), digits=200, rtol=1e-10)


def test_residues_of_any_size(rng):
    """Units of the states differ by 10^60, residues by 10^16."""
    sys = arc(20, 1, 1, rng, width=0.3)
    units, sizes = 10.0 ** rng.uniform(-30, 30, 20), 10.0 ** rng.uniform(-8, 8, 20)
    sys = DiagonalSSM(log_poles=sys.log_poles, B=sys.B * units[:, None], C=sys.C * sizes / units, D=sys.D)
    assert_exact(hsv(sys), sys, digits=400, rtol=1e-11)


@pytest.mark.parametrize("inputs", [2, 4])
def test_several_inputs(rng, inputs):
    """Accurate to each value's own size for inputs in general position."""
    poles = s4d_real(24, rng)
    sys = DiagonalSSM(log_poles=poles.log_poles, B=rng.normal(size=(24, inputs)), C=rng.normal(size=(3, 24)), D=np.zeros((3, inputs)))
    assert_exact(hsv(sys), sys, digits=250, rtol=1e-10)


def test_entries_of_the_factor(rng):
    """Each entry to its own size: Cholesky with complete pivoting, in 100 digits."""
    sys = s4d_real(12, rng)
    L = controllability_factor(sys)
    flint.ctx.dps = 100
    try:
        mu = [flint.arb(float(x)) for x in sys.log_poles]
        S = [[-1 / (a + b).expm1() for b in mu] for a in mu]
        for k in range(12):
            p = max(range(12), key=lambda i: float(S[i][i].mid()))
            column = [S[i][p] / S[p][p].sqrt() for i in range(12)]
            np.testing.assert_allclose(np.abs(L[:, k]), [abs(float(x.mid())) for x in column], rtol=1e-12, atol=1e-60)
            S = [[S[i][j] - column[i] * column[j] for j in range(12)] for i in range(12)]
    finally:
        flint.ctx.dps = 15
