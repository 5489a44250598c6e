"""Certificates on systems that are unstable on purpose (none may be proved), on stable ones (how many are), and on a trained Mamba.

    python -m tests.benchmarks.certificates [soundness] [power] [tightness] [--count 100000]

Every unstable system has an eigenvalue that is known exactly: 1e-2 to 1e-14 outside the circle, or on it.
"""

import argparse
import time
from collections import Counter
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np

from ssm_analysis import FAMILIES, DiagonalSSM, RealDiagonalSSM, StateSpace, verify
from ssm_analysis.certificates import LayerNorm, RMSNorm
from ssm_analysis.certificates.dense import circle
from ssm_analysis.families.shared.hippo import hippo
from tests.support.families_table import fresh, with_options, with_params

EXAMPLE = Path(__file__).parents[2] / "examples" / "trained_mamba.py"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000, help="unstable systems (default 100000)")
    parser.add_argument("parts", nargs="*", help="some of soundness, power, tightness (default all)")
    arguments, rng = parser.parse_args(), np.random.default_rng(0)
    for part in (soundness, power, tightness):
        if part.__name__ in (arguments.parts or [part.__name__]):
            part(rng, arguments.count)


def soundness(rng, count):
    """False proofs among unstable systems, kind by kind."""
    total = wrong = 0
    for name, share, make in UNSTABLE:
        start, verdicts = time.perf_counter(), Counter()
        for _ in range(int(share * count)):
            verdicts[make(rng)] += 1
        total, wrong = total + sum(verdicts.values()), wrong + verdicts["proved"]
        print(f"{name:42}{dict(verdicts)!s:60}{time.perf_counter() - start:8.1f} s")
    print(f"{wrong} false proofs among {total} unstable systems\n")


def margin(rng):
    return 0.0 if rng.random() < 0.05 else 10.0 ** -rng.uniform(2, 14)


def verdict(subject, **options):
    """Of asymptotic stability; 'proved' too if any other property says so that cannot hold."""
    found = {c.property: c.verdict for c in verify(subject, dtypes=[], **options)}
    return (
        "proved" if "proved" in (found["asymptotic_stability"], found["uniform_exponential_stability"]) else found["asymptotic_stability"]
    )


def a_diagonal_system(rng):
    n = rng.integers(1, 6)
    mu = -rng.random(n) + 1j * rng.uniform(-3, 3, n)
    mu = np.where(np.arange(n) == rng.integers(n), margin(rng) + 1j * mu.imag, mu)
    kind = DiagonalSSM if rng.random() < 0.5 else RealDiagonalSSM
    return verdict(kind(log_poles=mu, B=np.ones((n, 1)), C=np.ones((1, n)), D=np.zeros((1, 1))))


def an_s5_layer(rng):
    layer = fresh("s5", d_model=2, d_state=4, discretization="zoh" if rng.random() < 0.5 else "bilinear", seed=int(rng.integers(2**31)))
    re = np.array(layer.params["Lambda_re"])
    re[rng.integers(2)] = margin(rng)
    return verdict(with_params(layer, Lambda_re=re))


def an_s4d_layer(rng):
    layer = fresh("s4d", d_model=2, d_state=4, disc="zoh" if rng.random() < 0.5 else "bilinear", seed=int(rng.integers(2**31)))
    rate = np.array([[0.5, 0.5]])
    rate[0, rng.integers(2)] = -margin(rng)
    return verdict(with_options(with_params(layer, A_real=rate), real_transform="none"))


def an_s4_layer(rng):
    """Lambda with one growing pair, and a low-rank part that does not touch it."""
    layer = fresh("s4", d_model=1, d_state=4, seed=int(rng.integers(2**31)))
    rate, P = np.array([[-margin(rng), 0.5]]), np.array(layer.params["P"])
    P[:, :, 0] = 0
    return verdict(with_options(with_params(layer, A_real=rate, P=P), real_transform="none"))


def an_s6_layer(rng):
    """A constant step of 0 or less: softplus of the bias less than what is taken off behind it."""
    layer = S6
    offset = -np.log(2.0) - margin(rng) - 1e-15
    return verdict(
        with_options(with_params(layer, A_log=np.array(rng.standard_normal((2, 2)))), dt_offset=offset), input_radius=1.0, effort="fast"
    )


S6 = with_params(
    FAMILIES["s6"].init(d_model=2, d_state=2, expand=1, d_conv=2, dt_rank=1), dt_proj__weight=np.zeros((2, 1)), dt_proj__bias=np.zeros(2)
)


def an_rg_lru_layer(rng):
    layer = fresh("rg_lru", d_model=2, seed=int(rng.integers(2**31)))
    return verdict(with_options(layer, c=-margin(rng)), input_radius=1.0, effort="fast")


def a_permuted_triangle(rng):
    """Its eigenvalues are the diagonal, exactly."""
    n = int(rng.integers(2, 9))
    T = np.tril(rng.standard_normal((n, n)) * 10.0 ** rng.uniform(-2, 2), -1) + np.diag(rng.uniform(-0.99, 0.99, n))
    T[(k := rng.integers(n)), k] = (1 + margin(rng)) * rng.choice([-1, 1])
    order = rng.permutation(n)
    return circle(T[np.ix_(order, order)]).verdict


def a_change_of_basis(rng):
    """S diag(1 + 2^-k, ...) S^-1 with integer S, det 1: exact in doubles, and checked to be."""
    n = int(rng.integers(2, 6))
    S = (np.tril(rng.integers(-2, 3, (n, n)), -1) + np.eye(n)) @ (np.triu(rng.integers(-1, 2, (n, n)), 1) + np.eye(n))
    inverse = np.round(np.linalg.inv(S))
    if not np.array_equal(S @ inverse, np.eye(n)):
        return a_change_of_basis(rng)
    values = np.concatenate([[1 + 2.0 ** -rng.integers(7, 38)], rng.choice([0.5, 0.25, -0.5, -0.25], n - 1)])
    return circle(S @ np.diag(values) @ inverse).verdict


def a_rotation(rng):
    """[[a, b], [-b, a]] with a^2 + b^2 > 1 in rational numbers, in a larger triangle of blocks."""
    angle = rng.uniform(0, 2 * np.pi)
    size = 1 + 10.0 ** -rng.uniform(2, 14)
    a, b = size * np.cos(angle), size * np.sin(angle)
    from fractions import Fraction

    if Fraction(a) ** 2 + Fraction(b) ** 2 < 1:
        return a_rotation(rng)
    A = np.tril(rng.standard_normal((4, 4)), -1) * 0.5
    A[:2, :2], A[2:, 2:] = [[a, b], [-b, a]], np.diag(rng.uniform(-0.9, 0.9, 2))
    A[3, 2] = rng.standard_normal()
    found = {c.property: c.verdict for c in verify(StateSpace(A=A, B=np.ones((4, 1)), C=np.ones((1, 4)), D=np.zeros((1, 1))), dtypes=[])}
    return found["asymptotic_stability"]


UNSTABLE = (
    ("diagonal systems", 0.25, a_diagonal_system),
    ("S5 layers, Re Lambda >= 0", 0.15, an_s5_layer),
    ("S4D layers, no transform", 0.15, an_s4d_layer),
    ("S4 layers, no transform", 0.02, an_s4_layer),
    ("S6 layers, negative offset of the step", 0.02, an_s6_layer),
    ("RG-LRU layers, c <= 0", 0.06, an_rg_lru_layer),
    ("permuted triangular matrices", 0.25, a_permuted_triangle),
    ("integer changes of basis", 0.07, a_change_of_basis),
    ("rotations", 0.03, a_rotation),
)


def power(rng, count):
    """How many stable matrices are proved, and HiPPO with 256 states."""
    for distance in (1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 1e-14):
        found = Counter()
        for k in range(60):
            A = rng.standard_normal(((n := (8, 16, 32)[k % 3]), n))
            found[circle(A / np.max(np.abs(np.linalg.eigvals(A))) * (1 - distance)).verdict] += 1
        print(f"stable random matrices at 1 - {distance:g}: {dict(found)}")
    for measure in ("legs", "legt"):
        half = hippo(measure, 256)[0] * 0.005
        A = np.linalg.solve(np.eye(256) - half, np.eye(256) + half)
        start = time.perf_counter()
        found = circle(A)
        spent = time.perf_counter() - start
        print(f"{measure}, 256 states: {found.verdict} by {found.theorem}, radius <= {found.radius[1]:.9f}, {spent:.2f} s")
    layer = FAMILIES["s6"].init(d_model=768)
    start = time.perf_counter()
    verify(layer, norm=RMSNorm(weight=np.ones(768)))
    print(f"a Mamba layer of width 768: {time.perf_counter() - start:.1f} s\n")


def tightness(rng, count):
    """The six layers of the trained Mamba of the package typeseg behind their LayerNorms."""
    if find_spec("typeseg") is None:
        print("typeseg is not installed")
        return
    spec = spec_from_file_location("trained_mamba", EXAMPLE)
    example = module_from_spec(spec)
    spec.loader.exec_module(example)
    for i, w in enumerate(example.read_weights()[1]):
        layer, norm = example.layers(w, i)[0], LayerNorm(weight=w["LayerNorm_0/scale"], bias=w["LayerNorm_0/bias"], eps=1e-6)
        start = time.perf_counter()
        found = {c.property: c for c in verify(layer, norm=norm, effort="witness")}
        spent, steps, bias = time.perf_counter() - start, found["asymptotic_stability"].per_channel, layer.params["dt_proj.bias"]
        certified, seen = (
            np.maximum(steps[f"step before softplus, {word}upper"] - bias, bias - steps[f"step before softplus, {word}lower"])
            for word in ("", "seen ")
        )
        state, overflow = found["bounded_state"], found["no_overflow:fp16"]
        largest = state.quantities["largest |h|"]
        ratio = state.per_channel["upper"] / np.where(state.per_channel["seen"] > 0, state.per_channel["seen"], np.nan)
        print(
            f"block {i}: step {np.nanmedian(certified / seen):.2f} of a witness (largest {np.nanmax(certified / seen):.2f}), state "
            f"{np.nanmedian(ratio):.1f} (largest {largest.upper:.4g} and {largest.lower:.4g}), "
            f"fp16 overflow excluded for {np.mean(overflow.per_channel['proved']):.1%}, {spent:.1f} s with the search"
        )


if __name__ == "__main__":
    main()
