"""Systems whose matrices are far from normal."""

import numpy as np

from ssm_analysis import StateSpace


def legs(n, delta, rng, *, turned):
    """HiPPO-LegS by the bilinear rule: eigenvector condition 1e47 at n = 64."""
    i = np.arange(n)
    a = -np.tril(np.sqrt(np.outer(2 * i + 1, 2 * i + 1)), -1) - np.diag(i + 1.0)
    inverse = np.linalg.inv(np.eye(n) - delta / 2 * a)
    A, B, C = inverse @ (np.eye(n) + delta / 2 * a), inverse @ np.sqrt(2 * i + 1.0)[:, None] * delta, rng.normal(size=(1, n))
    if turned:
        Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
        A, B, C = Q @ A @ Q.T, Q @ B, C @ Q.T
    return StateSpace(A=A, B=B, C=C, D=np.zeros((1, 1)))
