"""The systems that the benchmarks are about, and what the peers make of them."""

import warnings

import control
import numpy as np

from ssm_analysis import RealDiagonalSSM, StateSpace
from ssm_analysis.systems.discretization import zero_order_hold


def s4d_lin(channels: int, modes: int = 32, *, seed: int = 0) -> RealDiagonalSSM:
    """S4D-Lin with all modes complex: a = -1/2 + i pi (n + 1/2), steps log-uniform in [1e-3, 1e-1], zero-order hold."""
    rng = np.random.default_rng(seed)
    a = np.broadcast_to(-0.5 + 1j * np.pi * (np.arange(modes) + 0.5), (channels, modes))
    delta = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), (channels, 1)))
    log_poles, B = zero_order_hold(a, np.ones((channels, modes, 1), dtype=np.complex128), delta)
    C = (rng.standard_normal((channels, 1, modes)) + 1j * rng.standard_normal((channels, 1, modes))) / np.sqrt(2) * 2
    return RealDiagonalSSM(log_poles=log_poles, B=B, C=C, D=rng.standard_normal((channels, 1, 1)))


def lru(modes: int, width: int, *, r_min: float = 0.9, r_max: float = 0.999, seed: int = 0) -> RealDiagonalSSM:
    """An LRU layer on the ring r_min <= |lambda| <= r_max."""
    from ssm_analysis import FAMILIES

    sys = FAMILIES["lru"].init(d_model=width, d_state=modes, r_min=r_min, r_max=r_max, seed=seed).system()
    assert isinstance(sys, RealDiagonalSSM)
    return sys


def dense(sys: RealDiagonalSSM) -> StateSpace:
    """Real block-diagonal matrices, the best case of the toolboxes."""
    return sys.to_dense()


def control_systems(sys: RealDiagonalSSM, count: int) -> list[control.StateSpace]:
    """The first ``count`` systems for python-control."""
    return [sys[i].to_control() for i in range(count)]


def pymor_system(sys: control.StateSpace) -> object:
    """For pyMOR."""
    from pymor.core.logger import set_log_levels
    from pymor.models.iosys import LTIModel

    set_log_levels({"pymor": "ERROR"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LTIModel.from_matrices(sys.A, sys.B, sys.C, sys.D, sampling_time=sys.dt)
