"""S5: stable exactly where the stored numbers have the right signs."""

from collections.abc import Iterator

import numpy as np

from ssm_analysis.certificates.certificate import Certificate
from ssm_analysis.certificates.gains import with_gain_answers
from ssm_analysis.certificates.linear import diagonal_answers
from ssm_analysis.certificates.question import Inquiry, listed
from ssm_analysis.certificates.rounding import Interval, exp
from ssm_analysis.certificates.sign_tests import Decay, bilinear_rate, product_sign
from ssm_analysis.families.s5.model import CLIP
from ssm_analysis.systems import RealDiagonalSSM

COVERED = ("discretization", "conj_sym", "clip_eigs", "step_rescale")
"""Options that the theorems cover."""


def certify(inquiry: Inquiry) -> Iterator[Certificate]:
    """Yield the certificates of an S5 layer."""
    uncovered = inquiry.uncovered_options(COVERED)
    if uncovered:
        return inquiry.all_undecided(f"the options {listed(uncovered)} of S5 are not covered by a theorem here")
    sys = inquiry.layer.system()
    assert isinstance(sys, RealDiagonalSSM)
    return with_gain_answers(inquiry, sys, diagonal_answers(inquiry, sys, decay_of_layer(inquiry)))


def decay_of_layer(inquiry: Inquiry) -> Decay:
    """Return how each mode decays: Lambda_re has the sign, since the steps exp(log_step) are positive."""
    p, options = inquiry.params(), inquiry.layer.options
    re = np.minimum(p["Lambda_re"], CLIP) if options.clip_eigs else p["Lambda_re"]
    rescale = np.full(re.shape, float(options.step_rescale))
    delta = exp(Interval.exact(p["log_step"])) * Interval.exact(rescale)
    decay = delta * Interval.exact(-re)
    if options.discretization == "bilinear":
        decay = bilinear_rate(decay, delta * Interval.exact(p["Lambda_im"]))
    factors = (re, rescale)
    return Decay(sign=product_sign(factors), rate=decay, factors=factors, formula="Lambda_re step_rescale")
