"""Hankel singular values of S4D-Real in thousands of bits: the reference that no double-precision toolbox can give.

a = -1, ..., -64, step 0.01, b = c = 1: sigma_1 is about 46, sigma_64 about 1e-95.
"""

import control
import flint
import numpy as np

import ssm_analysis as ssm
from ssm_analysis import DiagonalSSM

N, STEP, BITS = 64, 0.01, 4000


def system() -> DiagonalSSM:
    """Poles e^(-0.01 k), k = 1, ..., 64."""
    one = np.ones((N, 1))
    return DiagonalSSM(log_poles=-STEP * np.arange(1, N + 1.0), B=one, C=np.ones((1, N)), D=np.zeros((1, 1)))


def exact_values() -> np.ndarray:
    """sqrt(eig(P Q)) = the eigenvalues of P, since P = Q for b = c: 1 / (1 - l_i l_j), in ball arithmetic."""
    flint.ctx.prec, before = BITS, flint.ctx.prec
    try:
        mu = [flint.arb(float(m)) for m in system().log_poles]
        P = flint.acb_mat([[1 / (1 - (mu[i] + mu[j]).exp()) for j in range(N)] for i in range(N)])
        values = sorted((float(v.real) for v in P.eig()), reverse=True)
    finally:
        flint.ctx.prec = before
    return np.array(values)


def relative_error_on_s4d_real() -> tuple[np.ndarray, np.ndarray]:
    """Of each of the 64 values: ours, and that of python-control with slycot's factors."""
    exact, sys = exact_values(), system()
    peer = sys.to_control()
    theirs = np.linalg.svd(control.gram(peer, "of") @ control.gram(peer, "cf"), compute_uv=False)
    return np.abs(ssm.hsv(sys) - exact) / exact, np.abs(theirs - exact) / exact
