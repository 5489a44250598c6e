"""LRU: stable exactly where the stored numbers have the right signs."""

from collections.abc import Iterator

import numpy as np

from ssm_analysis.certificates.certificate import Certificate
from ssm_analysis.certificates.gains import with_gain_answers
from ssm_analysis.certificates.linear import diagonal_answers
from ssm_analysis.certificates.question import Inquiry, listed
from ssm_analysis.certificates.rounding import Interval, exp
from ssm_analysis.certificates.sign_tests import Decay
from ssm_analysis.systems import RealDiagonalSSM

COVERED: tuple[str, ...] = ()
"""Options that the theorems cover."""


def certify(inquiry: Inquiry) -> Iterator[Certificate]:
    """Yield the certificates of an LRU layer."""
    uncovered = inquiry.uncovered_options(COVERED)
    if uncovered:
        return inquiry.all_undecided(f"the options {listed(uncovered)} of LRU are not covered by a theorem here")
    sys = inquiry.layer.system()
    assert isinstance(sys, RealDiagonalSSM)
    return with_gain_answers(inquiry, sys, diagonal_answers(inquiry, sys, decay_of_layer(inquiry)))


def decay_of_layer(inquiry: Inquiry) -> Decay:
    """Return how each mode decays: by exp(nu), which is positive whatever nu is."""
    nu = inquiry.params()["nu_log"]
    minus = -np.ones_like(nu)
    return Decay(sign=minus.astype(int), rate=exp(Interval.exact(nu)), factors=(minus,), formula="-exp(nu)", theorem="log-log")
