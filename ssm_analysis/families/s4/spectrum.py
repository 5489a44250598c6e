r"""The eigenvalues of two matrices of an S4 layer, the stored and the ideal one, in extended precision.

The *stored* matrix Lambda - P P^* is the one that a layer computes with. The *ideal* matrix is the HiPPO matrix that its
initialization approximates. With 64 states they share few eigenvalues: those of HiPPO-LegS are -1, ..., -64, and rounding its
diagonal and low-rank parts to double precision moves them as far as -120 and 50 off the real axis, because eigenvectors with a
condition number of 1e47 amplify the rounding. Both matrices have the same kernel to 13 digits, but no float64 eigenvalue routine
finds the spectrum of either. Every `Spectrum` therefore names its matrix and how ill-conditioned it is.
"""

import functools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
from jaxtyping import Float

from ssm_analysis.analyses.spectrum.eigenvalues import Spectrum
from ssm_analysis.analyses.spectrum.extended_precision import EnclosedEigenvalues, bilinear_log_pole, enclose_eigenvalues, nearest
from ssm_analysis.families.s4.options import Options
from ssm_analysis.families.shared.facts import Params
from ssm_analysis.families.shared.hippo import MEASURES, check_measure, exact_entries, hippo, normal_part
from ssm_analysis.families.shared.transforms import apply_transform, exact_transform
from ssm_analysis.xp import array_namespace, device, double, to_numpy

if TYPE_CHECKING:
    import flint

TITLES = {"legs": "HiPPO-LegS", "legt": "HiPPO-LegT", "fout": "HiPPO-FouT"}
CLAMP = 1e-4
"""Smallest -Re and -Im of Lambda at initialization, to which the official implementation clamps both (``inv_transform``)."""


def stored_spectrum(params: Params, options: Options) -> Spectrum:
    """Return the spectrum of the bilinear discretization of Lambda - P Q^*, taking the parameters as exact; Q is P where none is stored."""
    p = {name: to_numpy(double(x)) for name, x in params.items()}
    eigenvalues = enclosed_eigenvalues(p, options)
    own_steps = p["inv_dt"].shape[1] > 1  # then the steps are already in the matrix
    transform, inv_dt = ("none", np.ones(len(p["inv_dt"]))) if own_steps else (options.dt_transform, p["inv_dt"][:, 0])
    steps: list[Callable[[], flint.arb]] = [functools.partial(exact_transform, transform, float(step)) for step in inv_dt]
    bits = max(enclosed.bits for enclosed in eigenvalues)
    return _discrete(eigenvalues, steps, matrix=f"stored Lambda - P {'Q' if 'Q' in p else 'P'}*, {bits} bits", like=params)


@overload
def enclosed_eigenvalues(p: Params, options: Options, *, or_none: Literal[False] = ...) -> list[EnclosedEigenvalues]: ...
@overload
def enclosed_eigenvalues(p: Params, options: Options, *, or_none: Literal[True]) -> list[EnclosedEigenvalues | None]: ...
def enclosed_eigenvalues(p: Params, options: Options, *, or_none: bool = False) -> Sequence[EnclosedEigenvalues | None]:
    """Enclose the eigenvalues of the stored continuous matrix of each feature; equal matrices are computed once.

    Parameters
    ----------
    p
        The parameters of the layer as numpy arrays of float64 or complex128.
    options
        The options of the layer.
    or_none
        Whether a matrix whose eigenvalues cannot be enclosed gives None instead of a ValueError.
    """
    (H, k), S = p["inv_dt"].shape, p["A_real"].shape[0]
    matrix = _stored_matrix if options.conj_sym else _complex_matrix
    transforms = (options.dt_transform, options.real_transform, options.imag_transform)
    by_content: dict[bytes, EnclosedEigenvalues | None] = {}
    eigenvalues = []
    for h in range(H):
        low_rank = (p["P"][:, h % S], p.get("Q", p["P"])[:, h % S])
        rows = (p["A_real"][h % S], p["A_imag"][h % S], *low_rank, p["inv_dt"][h] if k > 1 else np.ones(0))
        key = b"".join(row.tobytes() for row in rows)
        if key not in by_content:
            try:
                by_content[key] = enclose_eigenvalues(functools.partial(matrix, *rows, *transforms))
            except ValueError:
                if not or_none:
                    raise
                by_content[key] = None
        eigenvalues.append(by_content[key])
    return eigenvalues


def ideal_spectrum(measure: str, d_state: int, delta: float | Float[np.ndarray, "*batch"]) -> Spectrum:
    """Return the spectrum of the bilinear discretization of a HiPPO matrix.

    The eigenvalues of LegS are exactly -1, ..., -N; those of the other measures are enclosed from exactly defined entries.

    Parameters
    ----------
    measure
        ``legs``, ``legt`` or ``fout``.
    d_state
        Number of states N, even.
    delta
        Step of the discretization: one number, or one for each system of a batch.

    Returns
    -------
    Spectrum
        Log-poles of shape (*batch, N), with a bound on their relative error.

    Raises
    ------
    ValueError
        If the measure is unknown, N is not even and positive, or a step is not positive.

    References
    ----------
    Gu, Goel, Re, arXiv 2111.00396, appendix B.

    Examples
    --------
    >>> from ssm_analysis.families.s4.spectrum import ideal_spectrum
    >>> spectrum = ideal_spectrum("legs", 4, 0.1)
    >>> np.exp(spectrum.log_poles).real  # (1 - k/20) / (1 + k/20)
    array([0.9047619 , 0.81818182, 0.73913043, 0.66666667])
    """
    check_measure(measure, d_state)
    steps = np.asarray(delta, dtype=np.float64)
    if not np.all(np.isfinite(steps) & (steps > 0)):
        raise ValueError(f"delta must be a positive step, or an array of them, got {delta}")
    eigenvalues = _ideal_eigenvalues(measure, d_state)
    balls = [functools.partial(exact_transform, "none", step) for step in steps.reshape(-1).tolist()]
    flat = _discrete([eigenvalues] * len(balls), balls, matrix=f"ideal {TITLES[measure]}", like={"delta": steps})
    return Spectrum(
        log_poles=flat.log_poles.reshape(*steps.shape, d_state),
        condition=flat.condition.reshape(steps.shape),
        error=flat.error,
        matrix=flat.matrix,
        one_of_each_pair=False,
    )


def measure_of(params: Params, options: Options) -> str:
    """Return the HiPPO measure that the parameters are a fresh initialization of.

    Raises
    ------
    ValueError
        If they are not a fresh initialization, for instance because they were trained.
    """
    rate, frequency = (
        to_numpy(apply_transform(t, params[name])) for t, name in ((options.real_transform, "A_real"), (options.imag_transform, "A_imag"))
    )
    power = np.sum(np.abs(to_numpy(params["P"])) ** 2, axis=0)
    modes = np.stack([rate, frequency, power], axis=-1).astype(np.float64)  # (S, n, 3): numbers that the phase of a mode does not change
    for measure in MEASURES:
        lam, V = normal_part(measure, 2 * rate.shape[1])
        P = np.conj(V.T) @ hippo(measure, 2 * rate.shape[1])[2]
        wanted = np.stack([np.maximum(-np.real(lam), CLAMP), np.maximum(-np.imag(lam), CLAMP), np.sum(np.abs(P) ** 2, axis=-1)], axis=-1)
        order, own = np.argsort(wanted[:, 1]), np.argsort(modes[..., 1], axis=-1)
        if np.allclose(np.take_along_axis(modes, own[..., None], axis=1), wanted[order], rtol=1e-4, atol=1e-6):
            return measure
    raise ValueError(
        f"the parameters are not a fresh initialization of {', '.join(MEASURES)}, so no ideal matrix belongs to them; "
        "spectrum() returns the eigenvalues of the matrix that they store"
    )


def _discrete(
    eigenvalues: Sequence[EnclosedEigenvalues], steps: "Sequence[Callable[[], flint.arb]]", *, matrix: str, like: Params
) -> Spectrum:
    """Discretize the eigenvalues, one row for each system, in the array library of ``like``."""
    rows, errors = [], []
    for enclosed, step in zip(eigenvalues, steps, strict=True):
        row, error = _log_poles(enclosed, step)
        rows.append(row)
        errors.append(error)
    xp, like_array = array_namespace(*like.values()), next(iter(like.values()))

    def back(x: np.ndarray) -> object:
        return xp.asarray(x, device=device(like_array))

    return Spectrum(
        log_poles=back(np.asarray(rows)),
        condition=back(np.asarray([enclosed.condition for enclosed in eigenvalues])),
        error=max(errors),
        matrix=matrix,
        one_of_each_pair=False,
    )


def _log_poles(enclosed: EnclosedEigenvalues, step: "Callable[[], flint.arb]") -> tuple[list[complex], float]:
    """Return the rounded log-poles, and a bound |e^error - 1| on the relative error of the poles."""
    import flint

    out, error = [], 0.0
    with flint.ctx.workprec(enclosed.bits):
        delta = step()
        for ball in enclosed.balls:
            log_pole = bilinear_log_pole(ball, delta)
            if log_pole is None:
                out.append(complex(-math.inf, 0.0))
                continue
            out.append(nearest(log_pole))
            error = max(error, float((log_pole - flint.acb(out[-1])).abs_upper()))
    return out, math.expm1(error)


def _stored_matrix(
    A_real: np.ndarray, A_imag: np.ndarray, P: np.ndarray, Q: np.ndarray, inv_dt: np.ndarray, *transforms: str
) -> "flint.arb_mat":
    """Return the stored matrix in real coordinates; where each state has its own step, each row is multiplied by it.

    [[Re L, -Im L], [Im L, Re L]] - 2 sum_r [Re P_r; Im P_r] [Re Q_r; Im Q_r]^T
    """
    import flint

    n, (rate, frequency, scale) = len(A_real), _diagonal(A_real, A_imag, inv_dt, *transforms)
    left, right = ([[flint.arb(float(x)) for x in (*p.real, *p.imag)] for p in X] for X in (P, Q))
    A = [[-2 * sum((p[i] * q[j] for p, q in zip(left, right, strict=True)), flint.arb(0)) for j in range(2 * n)] for i in range(2 * n)]
    for i in range(n):
        A[i][i] -= rate[i]
        A[n + i][n + i] -= rate[i]
        A[i][n + i] += frequency[i]
        A[n + i][i] -= frequency[i]
    return flint.arb_mat([[step * x for x in row] for step, row in zip(scale * 2, A, strict=True)])


def _complex_matrix(
    A_real: np.ndarray, A_imag: np.ndarray, P: np.ndarray, Q: np.ndarray, inv_dt: np.ndarray, *transforms: str
) -> "flint.acb_mat":
    """Return Lambda - sum_r P_r Q_r^*; where each state has its own step, each row is multiplied by it."""
    import flint

    n, (rate, frequency, scale) = len(A_real), _diagonal(A_real, A_imag, inv_dt, *transforms)
    left, right = ([[flint.acb(complex(x)) for x in p] for p in X] for X in (P, np.conj(Q)))
    A = [[-sum((p[i] * q[j] for p, q in zip(left, right, strict=True)), flint.acb(0)) for j in range(n)] for i in range(n)]
    for i in range(n):
        A[i][i] -= flint.acb(rate[i], frequency[i])
    return flint.acb_mat([[step * x for x in row] for step, row in zip(scale, A, strict=True)])


def _diagonal(
    A_real: np.ndarray, A_imag: np.ndarray, inv_dt: np.ndarray, dt_transform: str, real_transform: str, imag_transform: str
) -> "tuple[list[flint.arb], list[flint.arb], list[flint.arb]]":
    """Return -Re Lambda, -Im Lambda and the step of each state, which is 1 unless each state has a step of its own."""
    pairs = ((real_transform, A_real), (imag_transform, A_imag), (dt_transform, inv_dt))
    rate, frequency, steps = ([exact_transform(transform, x) for x in xs] for transform, xs in pairs)
    return rate, frequency, steps or [exact_transform("none", 1.0)] * len(rate)


@functools.lru_cache
def _ideal_eigenvalues(measure: str, n: int) -> EnclosedEigenvalues:
    """Enclose the eigenvalues of the continuous HiPPO matrix of n states."""
    import flint

    if measure == "legs":
        balls = tuple(flint.acb(-k) for k in range(1, n + 1))
        return EnclosedEigenvalues(balls=balls, conditions=np.asarray([_legs_condition(j, n) for j in range(n)]), bits=256)
    F, G, M = (x.tolist() for x in exact_entries(measure, n))

    def matrix() -> flint.arb_mat:
        pi, half = flint.arb.pi(), flint.arb(0.5)
        return flint.arb_mat([[pi * F[i][j] + half * G[i][j] * flint.arb(M[i][j]).sqrt() for j in range(n)] for i in range(n)])

    return enclose_eigenvalues(matrix)


def _legs_condition(j: int, n: int) -> float:
    r"""Return the condition number of the eigenvalue -(j+1) of the n x n HiPPO-LegS matrix, from its eigenvectors in closed form.

    r_i = (-1)^{i-j} sqrt(2i+1) binom(i+j, i-j) for i >= j,   l_k = sqrt(2k+1) binom(2j, j-k) / (j+k+1) for k <= j,   l r = 1.

    The first is Lemma 3.2 of arXiv 2111.00396 in the coordinates in which the matrix is usually given.
    """
    right = sum((2 * i + 1) * math.comb(i + j, 2 * j) ** 2 for i in range(j, n))
    left = sum(((2 * k + 1) * Fraction(math.comb(2 * j, j - k), j + k + 1) ** 2 for k in range(j + 1)), Fraction(0))
    square = right * left
    return math.isqrt(math.floor(square * 4**64)) / 2**64 if square < 2**1900 else math.inf  # from 370 states beyond double precision
