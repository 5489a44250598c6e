"""The jobs of the benchmark table, each beside its peers."""

import warnings
from collections.abc import Callable
from typing import Any

import control
import numpy as np
import scipy.signal
import slycot

import ssm_analysis as ssm
from benchmarks.measure import Contender, Job
from benchmarks.systems import control_systems, dense, lru, pymor_system, s4d_lin


def poles() -> Job:
    sys = s4d_lin(10_000, modes=64)
    blocks = dense(sys[:40])
    halves = [np.block([[np.diag(z.real), -np.diag(z.imag)], [np.diag(z.imag), np.diag(z.real)]]) for z in sys[:40].poles()]

    def python_control(As: Any) -> Callable[[], Any]:
        return lambda: [control.StateSpace(A, blocks.B[0], blocks.C[0], blocks.D[0], 1.0).poles() for A in As]

    return Job(
        name="poles of 10,000 systems, N = 64 complex",
        ours=Contender(name="ours", run=lambda: (ssm.poles(sys), ssm.spectral_radius(sys))),
        peers=[
            Contender(name="python-control, A = [[Re, -Im], [Im, Re]], 40 scaled up", run=python_control(halves), part=40 / 10_000),
            Contender(name="python-control, A in 2 x 2 blocks, its best case", run=python_control(blocks.A), part=40 / 10_000),
        ],
        target="400x",
        accuracy=lambda: _error(ssm.poles(sys), np.exp(sys.log_poles.astype(np.clongdouble))),
    )


def frequency_response() -> Job:
    sys, omega = s4d_lin(256), np.linspace(0.001, np.pi, 1024)
    peers, z = control_systems(sys, 256), np.exp(1j * np.linspace(0.001, np.pi, 1024))

    def pymor_response() -> None:  # a new model each time: pyMOR remembers its answers
        pymor_system(peers[0]).transfer_function.freq_resp(omega)

    def scipy_response() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for p in peers[:16]:
                scipy.signal.dfreqresp((p.A, p.B, p.C, p.D, 1.0), omega)

    def exact() -> str:
        lam, G = sys[0].expand(), ssm.frequency_response(sys[:1], omega)[0, :, 0, 0]
        poles, c = (np.asarray(x, dtype=np.clongdouble) for x in (lam.poles(), (lam.C[0] * lam.B[:, 0])))
        return _error(G, np.sum(c / (z.astype(np.clongdouble)[:, None] - poles), axis=-1) + lam.D[0, 0])

    return Job(
        name="frequency response, 256 systems x 1,024 points, N = 64",
        ours=Contender(name="ours", run=lambda: ssm.frequency_response(sys, omega)),
        peers=[
            Contender(name="python-control + slycot", run=lambda: [p.frequency_response(omega) for p in peers]),
            Contender(name="scipy dfreqresp, 16 scaled up (no right digit)", run=scipy_response, part=16 / 256),
            Contender(name="pyMOR, 1 scaled up", run=pymor_response, part=1 / 256),
        ],
        target="40x python-control, 1e-12",
        accuracy=exact,
    )


def impulse_response() -> Job:
    sys, length = s4d_lin(256), 16_384
    peers = control_systems(sys, 2)

    def exact() -> str:
        one = sys[0]
        k = np.arange(length - 1, dtype=np.longdouble)
        mu, c = (np.asarray(x, dtype=np.clongdouble) for x in (one.log_poles, one.C[0] * one.B[:, 0]))
        K = np.concatenate([one.D[0], np.sum(c * np.exp(mu * k[:, None]), axis=-1).real])
        return _error(ssm.impulse_response(one, length)[:, 0, 0], K)

    return Job(
        name="impulse response, 256 x 16,384",
        ours=Contender(name="ours", run=lambda: ssm.impulse_response(sys, length)),
        peers=[
            Contender(
                name="python-control, 2 scaled up",
                run=lambda: [control.impulse_response(p, T=np.arange(length)) for p in peers],
                part=2 / 256,
            )
        ],
        target="250x, 1e-13",
        accuracy=exact,
    )


def hankel_values() -> Job:
    sys = s4d_lin(256)
    peers = control_systems(sys, 256)

    def with_slycot() -> None:
        for p in peers:
            np.linalg.svd(control.gram(p, "of") @ control.gram(p, "cf"), compute_uv=False)

    return Job(
        name="Hankel singular values, 256 x N = 64",
        ours=Contender(name="ours", run=lambda: ssm.hsv(sys)),
        peers=[
            Contender(name="python-control + slycot factors", run=with_slycot),
            Contender(name="pyMOR, 8 scaled up", run=lambda: [pymor_system(p).hsv() for p in peers[:8]], part=8 / 256),
        ],
        target="1x slycot; all 64 of S4D-Real to 1e-10",
        accuracy=_s4d_real_accuracy,
    )


def h_infinity() -> Job:
    sys = s4d_lin(256)
    peers = control_systems(sys, 64)
    return Job(
        name="H-infinity norm, 256 x N = 64",
        ours=Contender(name="ours", run=lambda: ssm.hinf_norm(sys)),
        peers=[_ab13dd(peers, 64 / 256)],
        target="40x, 1e-9",
        accuracy=lambda: _error(ssm.hinf_norm(sys[:64]), [control.linfnorm(p, tol=1e-10)[0] for p in peers]),
    )


def h_infinity_certified() -> Job:
    sys = s4d_lin(256)
    peers = control_systems(sys, 64)

    def sandwich() -> str:
        found = ssm.hinf_bounds(sys)
        return f"upper/lower - 1 <= {np.max(found.upper / found.lower) - 1:.1e}"

    return Job(
        name="H-infinity norm with certificate, 256 x N = 64",
        ours=Contender(name="ours", run=lambda: ssm.hinf_bounds(sys)),
        peers=[_ab13dd(peers, 64 / 256)],
        target="2x",
        accuracy=sandwich,
    )


def balanced_truncation() -> Job:
    sys = lru(128, 8)  # 256 real states, 8 x 8
    full, order = dense(sys), 32

    def slycot_ab09ad() -> None:
        slycot.ab09ad("D", "B", "N", full.nstates, 8, 8, full.A.copy(), full.B.copy(), full.C.copy(), nr=order)

    def pymor_bt() -> None:
        from pymor.reductors.bt import BTReductor

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            BTReductor(pymor_system(sys.to_control())).reduce(order)

    def bound() -> str:
        found = ssm.balanced_truncation(sys, order=order)
        return f"error {float(ssm.reduction.reduction_error(sys, found.system)):.3g} <= bound {float(found.error_bound):.3g}"

    return Job(
        name="balanced truncation 256 -> 32, 8 x 8",
        ours=Contender(name="ours", run=lambda: ssm.balanced_truncation(sys, order=order)),
        peers=[Contender(name="slycot ab09ad('D')", run=slycot_ab09ad), Contender(name="pyMOR BT", run=pymor_bt)],
        target="2x slycot, 5x pyMOR",
        accuracy=bound,
    )


def lru_layer() -> Job:
    sys, omega = lru(256, 64), np.linspace(0, np.pi, 1024)
    peer = sys.to_control()

    def sigma(G: np.ndarray) -> np.ndarray:
        return np.linalg.svd(G, compute_uv=False)

    return Job(
        name="LRU layer N = 256, 64 x 64: frequency response and sigma, 1,024 points",
        ours=Contender(name="ours", run=lambda: sigma(ssm.frequency_response(sys, omega))),
        peers=[
            Contender(
                name="python-control, 128 points scaled up",
                run=lambda: sigma(np.moveaxis(peer.frequency_response(omega[::8]).complex, -1, 0)),
                part=1 / 8,
            )
        ],
        target="4x, 1e-12",
        accuracy=lambda: _error(ssm.frequency_response(sys, omega[::64]), np.moveaxis(peer.frequency_response(omega[::64]).complex, -1, 0)),
    )


def _ab13dd(peers: list[control.StateSpace], part: float) -> Contender:
    return Contender(name="slycot ab13dd, tol 1e-10, 64 scaled up", run=lambda: [control.linfnorm(p, tol=1e-10) for p in peers], part=part)


def _s4d_real_accuracy() -> str:
    from benchmarks.exact_hankel import relative_error_on_s4d_real

    ours, theirs = relative_error_on_s4d_real()
    return f"worst {np.max(ours):.1e} of all 64 (python-control + slycot: {int(np.sum(theirs < 1e-10))} right)"


def _error(found: Any, exact: Any) -> str:
    """Largest error over largest size."""
    found, exact = np.asarray(found), np.asarray(exact)
    return f"{float(np.max(np.abs(found - exact)) / np.max(np.abs(exact))):.1e}"


JOBS: list[Callable[[], Job]] = [
    poles,
    frequency_response,
    impulse_response,
    hankel_values,
    h_infinity,
    h_infinity_certified,
    balanced_truncation,
    lru_layer,
]
