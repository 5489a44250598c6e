"""What the doctor and `verify` ask about the parameters of LRU."""

from collections.abc import Iterator, Mapping

import numpy as np

from ssm_analysis.families.shared.facts import DeadUnits, Facts, FreshTensor, Params
from ssm_analysis.families.shared.freshness import EXACT, is_close
from ssm_analysis.xp import Array


def width(params: Params, options: object) -> int:
    """Return the number of features in and out."""
    return params["B_re"].shape[1]


def log_rates(params: Params, options: object) -> Mapping[str, Array]:
    """Return nu_log, the logarithm of a decay rate per token."""
    return {"nu_log": params["nu_log"]}


def fresh(params: Params, options: object) -> Iterator[FreshTensor]:
    """Yield gamma_log if it follows from the eigenvalues as at initialization."""
    expected = 0.5 * np.log(-np.expm1(-2 * np.exp(params["nu_log"])))
    if is_close(params["gamma_log"], expected, EXACT * 16):
        words = "log sqrt(1 - |lambda|^2) in every state, as at initialization"
        yield FreshTensor(name="gamma_log", words=words, suspicious=False)


def dead(params: Params, options: object) -> DeadUnits:
    """Return the states that nothing enters or nothing reads."""
    enters, leaves = np.hypot(params["B_re"], params["B_im"]), np.hypot(params["C_re"], params["C_im"])
    none = (enters.max(axis=1) == 0) | (leaves.max(axis=0) == 0)
    return DeadUnits(dead=none, unit="states", why="all weights in or out are 0")


FACTS = Facts(width=width, log_rates=log_rates, fresh=fresh, dead=dead)
