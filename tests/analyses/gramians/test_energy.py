"""Energies and horizons against sums over simulated kernels, many digits, other implementations and each other."""

from dataclasses import replace

import control
import mpmath
import numpy as np
import pytest
import scipy.linalg
import slycot
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssm_analysis import DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.analyses.gramians.energy import energy_beyond, horizon, kernel_energy
from ssm_analysis.analyses.responses.time import markov_parameters
from tests.support.equivalent_systems import (
    DIFFERENTIABLE,
    gradients_are_right,
    in_single,
    in_strict,
    lifted,
    permuted,
    side_by_side,
    transposed,
    twins,
)
from tests.support.systems_table import INVARIANT, STABLE, TIME_VARYING, UNSTABLE, in_torch

ONE = np.ones((1, 1))
LAGS = (0, 1, 2, 5, 20, 60)
SHARES = (0.1, 0.5, 0.9, 0.99, 0.999999)
QUICK = [name for name in STABLE if "light_damping" not in name]
"""Systems whose kernels are over after a few hundred tokens."""
SILENT = ["complex_zero_input", "realpart_zero_input"]


def one_mode(mu, c=1.0, d=0.0):
    return DiagonalSSM(log_poles=np.array([mu]), B=ONE, C=c * ONE, D=d * ONE)


def squares(sys, length=3000):
    """||K[k]||_F^2, k < length."""
    return np.sum(np.abs(markov_parameters(sys, length)) ** 2, axis=(-2, -1))


def still_to_come(sys):
    """sum_{k > T} ||K[k]||_F^2 for T = -1, 0, 1, ..., summed from the end."""
    return np.flip(np.cumsum(np.flip(squares(sys), axis=-1), axis=-1), axis=-1)


def exact_energy(sys, lag=None):
    """sum_{k > lag} |K[k]|^2 of one diagonal system with one input and output, 60 digits; the whole sum without a lag."""
    with mpmath.workdps(60):
        sys = sys.expand() if isinstance(sys, RealDiagonalSSM) else sys
        mu = [mpmath.mpc(complex(x)) for x in np.asarray(sys.log_poles)]
        w = [mpmath.mpc(complex(c)) * mpmath.mpc(complex(b)) for c, b in zip(sys.C[0], sys.B[:, 0], strict=True)]
        total = mpmath.mpf(0)
        for m, x in zip(mu, w, strict=True):
            for n, y in zip(mu, w, strict=True):
                s = m + mpmath.conj(n)
                total += mpmath.re(x * mpmath.conj(y) * mpmath.exp((lag or 0) * s) / -mpmath.expm1(s))
        return total + (abs(mpmath.mpc(complex(sys.D[0, 0]))) ** 2 if lag is None else 0)


# sums over the kernel


@pytest.mark.parametrize("name", QUICK)
def test_energy_is_the_sum_over_the_kernel(name):
    sys = STABLE[name]
    np.testing.assert_allclose(kernel_energy(sys), np.sum(squares(sys), axis=-1), rtol=1e-11)


@pytest.mark.parametrize("name", [name for name in QUICK if name not in SILENT])
def test_energy_beyond_is_the_sum_over_the_rest_of_the_kernel(name):
    sys, rest = STABLE[name], still_to_come(STABLE[name])
    want = np.stack([rest[..., lag + 1] for lag in LAGS], axis=-1) / rest[..., :1]
    found = energy_beyond(sys, LAGS)
    assert found.shape == (*sys.batch_shape, len(LAGS))
    floor = 1e-14 if isinstance(sys, StateSpace) else 1e-28  # of the total: P, or its factor squared
    np.testing.assert_allclose(found, want, rtol=1e-9, atol=floor)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", [name for name in QUICK if name not in SILENT])
def test_horizon_counts_the_tokens(name, share):
    sys, rest = STABLE[name], still_to_come(STABLE[name])
    passed = rest[..., 1:] <= (1 - share) * rest[..., :1]
    np.testing.assert_array_equal(horizon(sys, share=share), np.argmax(passed, axis=-1) * sys.dt)


@pytest.mark.parametrize("name", [name for name in STABLE if name not in SILENT])
def test_horizon_and_energy_beyond_agree(name):
    sys = replace(STABLE[name], dt=1.0)
    for index in np.ndindex(sys.batch_shape):
        one = sys[index]
        T = int(horizon(one, share=0.9))
        at, *before = energy_beyond(one, (T, T - 1) if T else (T,))
        assert at <= 0.1 * (1 + 1e-12)
        assert all(x > 0.1 * (1 - 1e-12) for x in before)


# closed forms


@given(st.floats(-5, -1e-6), st.floats(-4, 4), st.integers(0, 10**6), st.sampled_from([0.0, 0.3]))
def test_one_mode(decay, angle, lag, d):
    """|d|^2 + |c|^2 / (1 - |lambda|^2), of which |c|^2 |lambda|^(2T) / (1 - |lambda|^2) comes after T."""
    sys = one_mode(complex(decay, angle), c=2.0, d=d)
    energy = 4 / -np.expm1(2 * decay)
    np.testing.assert_allclose(kernel_energy(sys), d**2 + energy, rtol=1e-14)
    np.testing.assert_allclose(energy_beyond(sys, (lag,)), energy * np.exp(2 * decay * lag) / (d**2 + energy), rtol=1e-13)


@pytest.mark.parametrize("angle", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("rate", [0.3, 1e-2, 1e-6, 1e-9, 1e-12, 1e-17, 1e-30, 1e-300])
def test_horizon_of_one_mode(rate, angle):
    """The smallest integer above log(1 - share) / -2 rate; where doubles hold no such integers, the number itself."""
    for share in SHARES:
        want = -np.log1p(-share) / (2 * rate)
        if want < 2**53:
            with mpmath.workdps(60):
                want = float(mpmath.ceil(-mpmath.log(mpmath.mpf(1 - share)) / (2 * mpmath.mpf(rate))))
            np.testing.assert_allclose(horizon(one_mode(-rate + 1j * angle), share=share), want, rtol=0, atol=max(0, 1e-15 * want))
        else:
            np.testing.assert_allclose(horizon(one_mode(-rate + 1j * angle), share=share), want, rtol=1e-14)


def test_a_shift_register_answers_at_one_moment():
    """All poles at exactly 0; K = (0, 0, 0, 1)."""
    sys = STABLE["dense_shift_register"]
    assert kernel_energy(sys) == 1
    np.testing.assert_array_equal(energy_beyond(sys, (0, 2, 3, 10**9)), [1, 1, 0, 0])
    assert horizon(sys) == 3


@pytest.mark.parametrize("n", [2, 6, 12])
def test_a_jordan_block(n):
    """K[k] = binomial(k-1, n-1) 0.9^(k-n): in 64 bits some of its eigenvalues leave the disc when it is mixed."""
    A, unit = 0.9 * np.eye(n) + np.eye(n, k=1), np.eye(n)
    sys = StateSpace(A=A, B=unit[:, -1:], C=unit[:1], D=np.zeros((1, 1)))
    with mpmath.workdps(40):
        terms = [(mpmath.binomial(k - 1, n - 1) * mpmath.mpf(0.9) ** (k - n)) ** 2 for k in range(1, 2000)]
        total, T, passed = mpmath.fsum(terms), 0, mpmath.mpf(0)
        while passed < mpmath.mpf(0.99) * total:
            passed += terms[T]
            T += 1
    np.testing.assert_allclose(kernel_energy(sys), float(total), rtol=1e-11)
    assert horizon(sys) == T


@pytest.mark.parametrize("name", ["complex_light_damping", "realpart_light_damping", "complex_repeated", "realpart_siso", "complex_pairs"])
def test_many_digits(name):
    sys = STABLE[name]
    np.testing.assert_allclose(kernel_energy(sys), float(exact_energy(sys)), rtol=1e-13)
    lags = (0, 10, 10**4, 10**9)
    want = [float(exact_energy(sys, lag) / exact_energy(sys)) for lag in lags]
    # the phases of the modes after 10^9 tokens are known to 10^9 roundings
    np.testing.assert_allclose(energy_beyond(sys, lags), want, rtol=3e-7, atol=1e-300)
    np.testing.assert_allclose(energy_beyond(sys, lags[:3]), want[:3], rtol=1e-10, atol=1e-300)


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-8])
def test_poles_next_to_each_other(gap):
    """(lambda_1^k - lambda_2^k) / gap, nearly k lambda^(k-1): residues of 1e8 cancel, and only the kernel's own digits go."""
    mu = np.array([-0.1, -0.1 - gap])
    sys = DiagonalSSM(log_poles=mu, B=np.ones((2, 1)), C=np.array([[1, -1]]) / gap, D=np.zeros((1, 1)))
    want = exact_energy(sys)
    assert 0.5 < want / (2 * 125 / 1.0) < 2  # sum (k - 1)^2 e^(-0.2 (k - 1)), about 2 / 0.2^3
    np.testing.assert_allclose(kernel_energy(sys), float(want), rtol=10 * np.finfo(float).eps / gap)
    np.testing.assert_allclose(energy_beyond(sys, (30,))[0], float(exact_energy(sys, 30) / want), rtol=20 * np.finfo(float).eps / gap)


def test_a_tail_far_below_the_total():
    """Relative to itself: 1e-200 of the energy."""
    sys = DiagonalSSM(log_poles=np.array([-0.5, -0.2 + 1j]), B=np.ones((2, 1)), C=np.array([[1.0, 0.5j]]), D=np.zeros((1, 1)))
    want = float(exact_energy(sys, 1200) / exact_energy(sys))
    assert 0 < want < 1e-200
    np.testing.assert_allclose(energy_beyond(sys, (1200,))[0], want, rtol=1e-12)


# laws


@pytest.mark.parametrize("name", STABLE)
def test_how_the_states_are_written_does_not_matter(name):
    sys = STABLE[name]
    light = "light_damping" in name
    for how, twin in twins(sys).items():
        full = light and how in ("dense", "rotated")  # 1 - |lambda| = 1e-9 of a stored lambda
        np.testing.assert_allclose(kernel_energy(twin), kernel_energy(sys), rtol=1e-6 if full else 1e-11, err_msg=how)
        np.testing.assert_allclose(energy_beyond(twin, LAGS), energy_beyond(sys, LAGS), rtol=1e-6, atol=1e-13, err_msg=how)
        np.testing.assert_allclose(horizon(twin), horizon(sys), rtol=1e-6 if full else 0, err_msg=how)


@pytest.mark.parametrize("name", INVARIANT)
def test_libraries_agree(name):
    sys = INVARIANT[name]
    for f in (kernel_energy, horizon, lambda s: energy_beyond(s, LAGS)):
        want, found = f(sys), f(in_torch(sys))
        assert isinstance(found, torch.Tensor)
        np.testing.assert_allclose(found.numpy(), want, rtol=1e-11, atol=1e-15)
        np.testing.assert_allclose(np.asarray(f(in_strict(sys))), want, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("name", ["complex_mimo", "diagonal_real_siso", "realpart_siso", "dense_mimo"])
def test_32_bits_are_lifted_first(name):
    single = in_single(STABLE[name])
    for f in (kernel_energy, horizon, lambda sys: energy_beyond(sys, LAGS)):
        np.testing.assert_array_equal(f(single), f(lifted(single)))


@pytest.mark.parametrize("name", [name for name in INVARIANT if INVARIANT[name].batch_shape])
def test_a_batch_answers_member_by_member(name):
    sys = INVARIANT[name]
    for f in (kernel_energy, horizon, lambda s: energy_beyond(s, LAGS)):
        together = f(sys)
        for index in np.ndindex(sys.batch_shape):
            np.testing.assert_allclose(together[index], f(sys[index]), rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("name", ["complex_mimo", "complex_one_input", "realpart_mimo", "dense_mimo", "dense_complex_mimo"])
def test_inputs_and_outputs_change_places(name):
    sys = STABLE[name]
    np.testing.assert_allclose(kernel_energy(transposed(sys)), kernel_energy(sys), rtol=1e-12)
    np.testing.assert_allclose(energy_beyond(transposed(sys), LAGS), energy_beyond(sys, LAGS), rtol=1e-9, atol=1e-14)
    assert horizon(transposed(sys)) == horizon(sys)


@pytest.mark.parametrize("name", [name for name in STABLE if name not in SILENT])
def test_scaling_the_output_scales_the_energy_and_nothing_else(name):
    sys = STABLE[name]
    louder = replace(sys, C=4 * sys.C, D=4 * sys.D, dt=2 * sys.dt)
    np.testing.assert_allclose(kernel_energy(louder), 16 * kernel_energy(sys), rtol=1e-14)
    np.testing.assert_allclose(energy_beyond(louder, LAGS), energy_beyond(sys, LAGS), rtol=1e-13)
    np.testing.assert_array_equal(horizon(louder), 2 * horizon(sys))


def test_a_mixture_of_the_outputs_that_keeps_lengths_keeps_the_energy(rng):
    sys = STABLE["realpart_mimo"]
    Q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    np.testing.assert_allclose(kernel_energy(replace(sys, C=Q @ sys.C, D=Q @ sys.D)), kernel_energy(sys), rtol=1e-13)


def test_energies_of_channels_add():
    sys = STABLE["complex_mimo"]
    parts = [replace(sys, B=sys.B[:, i : i + 1], D=sys.D[:, i : i + 1]) for i in range(sys.ninputs)]
    np.testing.assert_allclose(sum(kernel_energy(part) for part in parts), kernel_energy(sys), rtol=1e-13)


def test_the_parallelogram_law():
    """||G + H||^2 + ||G - H||^2 = 2 ||G||^2 + 2 ||H||^2."""
    G, H = (DiagonalSSM(**{x: getattr(STABLE[n], x) for x in STABLE[n].AXES}) for n in ("complex_siso", "complex_repeated"))
    minus = replace(H, C=-H.C, D=-H.D)
    both = kernel_energy(side_by_side(G, H)) + kernel_energy(side_by_side(G, minus))
    np.testing.assert_allclose(both, 2 * kernel_energy(G) + 2 * kernel_energy(H), rtol=1e-12)


def test_a_system_minus_itself_has_no_energy():
    """All poles twice, residues that cancel exactly."""
    G = STABLE["complex_siso"]
    nothing = side_by_side(G, replace(G, C=-G.C, D=-G.D))
    assert kernel_energy(nothing) <= 1e-28 * kernel_energy(G)
    np.testing.assert_allclose(kernel_energy(permuted(side_by_side(G, G))), 4 * kernel_energy(G), rtol=1e-13)


# kernels without energy, and with too much


@pytest.mark.parametrize("name", SILENT)
def test_only_D(name):
    sys = STABLE[name]
    np.testing.assert_allclose(kernel_energy(sys), np.sum(np.abs(sys.D) ** 2), rtol=1e-15)
    np.testing.assert_array_equal(energy_beyond(sys, LAGS), 0)
    assert horizon(sys) == 0


@pytest.mark.parametrize("name", [*SILENT, "dense_siso", "dense_mimo", "realpart_mimo", "complex_mimo"])
def test_nothing_at_all(name):
    sys = STABLE[name]
    sys = replace(sys, C=0 * sys.C, D=0 * sys.D)
    assert kernel_energy(sys) == 0
    np.testing.assert_array_equal(energy_beyond(sys, LAGS), np.nan)
    assert np.isnan(horizon(sys))


@pytest.mark.parametrize("name", UNSTABLE)
def test_unstable_systems_have_infinite_energy(name):
    sys = UNSTABLE[name]
    growing = np.max(np.abs(sys.poles()), axis=-1) >= 1
    assert growing.any()
    np.testing.assert_array_equal(np.isinf(kernel_energy(sys)), growing)
    np.testing.assert_array_equal(np.isinf(horizon(sys)), growing)
    np.testing.assert_array_equal(np.isnan(energy_beyond(sys, LAGS)), np.repeat(growing[..., None], len(LAGS), axis=-1))
    silent = replace(sys, C=0 * sys.C, D=0 * sys.D)  # by definition, not by what can be seen
    np.testing.assert_array_equal(np.isinf(kernel_energy(silent)), growing)
    np.testing.assert_array_equal(np.isinf(horizon(silent)), growing)


def test_the_circle_decides_exactly():
    """1 - |lambda| = 1e-300 is stable, 0 is not; in float32 too, where lambda would be 1."""
    for dtype in (np.float64, np.float32):
        mu = np.array([[-1e-30], [0.0]], dtype=dtype)
        sys = DiagonalSSM(log_poles=mu, B=ONE.astype(dtype), C=ONE.astype(dtype), D=0 * ONE.astype(dtype))
        np.testing.assert_allclose(kernel_energy(sys), [0.5e30, np.inf], rtol=1e-6)
        np.testing.assert_array_equal(np.isinf(horizon(sys)), [False, True])


def test_an_energy_beyond_every_double_is_infinite():
    sys = one_mode(-1e-305, c=1e100)
    with np.errstate(over="ignore"):
        assert kernel_energy(sys) == np.inf
        assert horizon(sys) == np.inf
        assert np.isnan(energy_beyond(sys, (5,))[0])
    assert horizon(one_mode(-1e-303)) == np.inf  # 2^1000 tokens are not enough


# other implementations


@pytest.mark.parametrize("name", ["realpart_siso", "realpart_mimo", "realpart_real_modes", "dense_siso", "dense_mimo", "complex_pairs"])
def test_python_control_and_slycot(name):
    theirs = STABLE[name].to_control()
    energy = kernel_energy(STABLE[name])
    np.testing.assert_allclose(energy, control.norm(theirs, 2) ** 2, rtol=1e-10)
    n, m, p = theirs.nstates, theirs.ninputs, theirs.noutputs
    norm = slycot.ab13bd("D", "H", n, m, p, *(x.copy() for x in (theirs.A, theirs.B, theirs.C, theirs.D)))
    np.testing.assert_allclose(energy, norm**2, rtol=1e-10)


@pytest.mark.parametrize("name", ["complex_siso", "complex_mimo", "dense_complex", "dense_complex_mimo", "diagonal_real_mimo"])
def test_scipy(name):
    sys = STABLE[name].to_dense()
    P = scipy.linalg.solve_discrete_lyapunov(sys.A, sys.B @ sys.B.conj().T)
    C = sys.C @ np.linalg.matrix_power(sys.A, 7)
    energy = np.trace(sys.C @ P @ sys.C.conj().T).real + np.sum(np.abs(sys.D) ** 2)
    np.testing.assert_allclose(kernel_energy(STABLE[name]), energy, rtol=1e-10)
    np.testing.assert_allclose(energy_beyond(STABLE[name], (7,))[0] * energy, np.trace(C @ P @ C.conj().T).real, rtol=1e-9)


# gradients


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(name):
    assert gradients_are_right(kernel_energy, STABLE[name])
    assert gradients_are_right(lambda sys: energy_beyond(sys, (0, 3)), STABLE[name])


@pytest.mark.parametrize("name", [n for n in DIFFERENTIABLE if n != "realpart_real_modes"])
@pytest.mark.parametrize("silenced", ["B", "C", "B and C", "one row of B"])
def test_gradients_where_nothing_or_not_all_is_reached(name, silenced):
    sys = STABLE[name]
    keep = (np.arange(sys.nstates) > 0).astype(float) if silenced == "one row of B" else np.zeros(sys.nstates)
    B = sys.B * keep[:, None] if "B" in silenced else sys.B
    C = sys.C * 0 if silenced in ("C", "B and C") else sys.C
    assert gradients_are_right(kernel_energy, replace(sys, B=B, C=C, D=0 * sys.D))


@pytest.mark.parametrize("name", ["complex_repeated", "dense_jordan"])
def test_gradients_at_repeated_poles(name):
    assert gradients_are_right(kernel_energy, STABLE[name])


def test_unstable_members_of_a_batch_leave_the_gradients_of_the_others_finite():
    sys = in_torch(UNSTABLE["complex_one_of_batch_growing"])
    log_poles = sys.log_poles.clone().requires_grad_()
    energy = kernel_energy(DiagonalSSM(log_poles=log_poles, B=sys.B, C=sys.C, D=sys.D))
    (gradient,) = torch.autograd.grad(energy[torch.isfinite(energy)].sum(), log_poles)
    assert torch.isfinite(torch.view_as_real(gradient)).all()
    assert gradient[0].abs().min() > 0


def test_horizons_have_no_gradient():
    sys = in_torch(STABLE["complex_siso"])
    assert not horizon(sys.map(lambda x: x.requires_grad_())).requires_grad


# what is refused


@pytest.mark.parametrize("share", [0, 1, -0.5, 2.0, float("nan")])
def test_share(share):
    with pytest.raises(ValueError, match=f"share must lie between 0 and 1, both excluded, got {share}"):
        horizon(STABLE["complex_siso"], share=share)


@pytest.mark.parametrize("lags", [(), (-1,), (3, 2.5), (True,)])
@pytest.mark.usefixtures("unchecked_annotations")
def test_lags(lags):
    with pytest.raises(ValueError, match=r"lags must be integers of at least 0 \(tokens\), one or more, got \("):
        energy_beyond(STABLE["complex_siso"], lags)


@pytest.mark.usefixtures("unchecked_annotations")
def test_time_varying_systems_are_refused():
    for f in (kernel_energy, horizon, lambda sys: energy_beyond(sys, LAGS)):
        with pytest.raises(TypeError, match=r"(kernel_energy|horizon|energy_beyond) takes one of DiagonalSSM.*got DiagonalLTV"):
            f(TIME_VARYING["ltv_complex"])
