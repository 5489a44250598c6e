"""Bounds of selective layers against the same formulas in balls of 200 bits: what is computed in doubles is never below."""

import flint
import mpmath
import numpy as np
import pytest

from ssm_analysis.certificates import window
from ssm_analysis.families.s6.certificate import heads, step_rows
from tests.support.certified_layers import BITS, a_norm, asked
from tests.support.families_table import fresh, trained, with_biases


def exact(x):
    return flint.arb_mat([[flint.arb(float(v)) for v in row] for row in np.atleast_2d(x)])


def norm_of(row):
    return sum((v * v for v in row), flint.arb(0)).sqrt()


@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_half_linear_bounds_are_above_their_values_at_200_bits(kind, rng):
    """T3 and T4 of a small layer from the stored numbers, in balls; the two inputs S and rho are checked below."""
    layer = trained(with_biases(fresh("s6", d_model=5, d_state=2, d_conv=3, dt_rank=2)), scale=0.5)
    norm = a_norm(layer, kind, rng)
    head = heads(asked(layer, norm))[0]
    rows, w = step_rows(head), head.window
    p = layer.params
    d_inner, K = p["D"].shape[0], 3
    with flint.ctx.workprec(BITS):
        root = flint.arb(5).sqrt()
        W = exact(p["in_proj.weight"][:d_inner])
        gamma = [flint.arb(float(g)) for g in norm.weight]
        beta = [flint.arb(float(b)) for b in (norm.bias if kind == "layer" else np.zeros(5))]
        q = [sum((W[c, i] * beta[i] for i in range(5)), flint.arb(float(p["in_proj.bias"][c]))) for c in range(d_inner)]
        V = [[W[c, i] * gamma[i] for i in range(5)] for c in range(d_inner)]
        if kind == "layer":
            V = [[v - sum(row, flint.arb(0)) / 5 for v in row] for row in V]
        k = exact(p["conv1d.weight"][:, 0])
        R = exact(p["dt_proj.weight"]) * exact(p["x_proj.weight"][:2])
        offset = [
            flint.arb(float(p["dt_proj.bias"][e]))
            + sum((flint.arb(float(p["dt_proj.weight"][e, i])) * flint.arb(float(p["x_proj.bias"][i])) for i in range(2)), flint.arb(0))
            for e in range(d_inner)
        ]
        for c in range(d_inner):
            reach = sum((abs(k[c, j]) for j in range(K)), flint.arb(0)) * norm_of(V[c]) * root
            assert reach <= flint.arb(float(w.reach[c]))
        for e in range(d_inner):
            linear = flint.arb(0)
            for j in range(K):
                linear += norm_of([sum((R[e, c] * k[c, j] * V[c][i] for c in range(d_inner)), flint.arb(0)) for i in range(5)])
            high = []
            for t, taps in enumerate(window.tap_sets(K, "causal", moves=True)):
                c0 = [
                    flint.arb(float(p["conv1d.bias"][c])) + q[c] * sum((k[c, int(j)] for j in taps), flint.arb(0)) for c in range(d_inner)
                ]
                rest = min(
                    float(mu) * float(w.sizes[t]) ** 2 / 8 + float(remainder(R, e, mu, w.depth)) for mu in rows.up.mu[e]
                )  # the same multipliers; their minimum is a bound whatever they are
                high.append(
                    sum((R[e, c] * c0[c] for c in range(d_inner)), flint.arb(0)) / 2 + offset[e] + root * linear / 2 + flint.arb(rest)
                )
            bound = rows.bounds(w).hi[e]
            assert max(float(x) for x in high) <= bound * (1 + 1e-15) + 1e-300
            assert bound <= max(float(x) for x in high) + 1e-9 * max(1.0, abs(bound))  # and not much above


def remainder(R, e, mu, depth):
    total = flint.arb(0)
    for c in range(R.ncols()):
        r = R[e, c] if R[e, c] > 0 else flint.arb(0)
        rho, m = flint.arb(float(depth[c])), flint.arb(float(mu))
        v = rho if mu == 0 or not r / m < rho else r / m
        total += r * v - m * v * v / 2
    return total


def test_norm_bounds_hold_for_singular_values_in_extended_precision(rng):
    layer = trained(fresh("s6", d_model=4, d_state=2, expand=1, d_conv=2), scale=0.5)
    w = heads(asked(layer, a_norm(layer, "rms", rng)))[0].window
    stacked = np.concatenate([w.taps[:, j, None] * w.W for j in range(2)], axis=1)
    with mpmath.workdps(50):
        largest = max(mpmath.svd_r(mpmath.matrix(stacked.tolist()), compute_uv=False))
        each = sum(max(mpmath.svd_r(mpmath.matrix((w.taps[:, j, None] * w.W).tolist()), compute_uv=False)) for j in range(2))
        assert largest <= w.stretch <= float(largest) * (1 + 1e-3)
        joint = min(each, largest * mpmath.sqrt(2)) * mpmath.mpf(w.radius)
    assert joint <= w.joint <= float(joint) * (1 + 1e-3)
