"""S4D: stable exactly where the stored numbers have the right signs."""

from collections.abc import Iterator

import numpy as np

from ssm_analysis.certificates.certificate import Certificate
from ssm_analysis.certificates.gains import with_gain_answers
from ssm_analysis.certificates.linear import diagonal_answers
from ssm_analysis.certificates.question import Inquiry, listed
from ssm_analysis.certificates.rounding import Interval
from ssm_analysis.certificates.sign_tests import Decay, bilinear_rate, product_sign
from ssm_analysis.families.shared.enclosed_transforms import enclosed_transform, tile_interval
from ssm_analysis.families.shared.transforms import tile_copies
from ssm_analysis.systems import RealDiagonalSSM

COVERED = ("dt_transform", "real_transform", "imag_transform", "disc", "strictly_causal")
"""Options that the theorems cover."""


def certify(inquiry: Inquiry) -> Iterator[Certificate]:
    """Yield the certificates of an S4D layer."""
    uncovered = inquiry.uncovered_options(COVERED)
    if uncovered:
        return inquiry.all_undecided(f"the options {listed(uncovered)} of S4D are not covered by a theorem here")
    sys = inquiry.layer.system()
    assert isinstance(sys, RealDiagonalSSM)
    return with_gain_answers(inquiry, sys, diagonal_answers(inquiry, sys, decay_of_layer(inquiry)))


def decay_of_layer(inquiry: Inquiry) -> Decay:
    """Return how each mode decays: rates f(A_real) and steps g(inv_dt), whose transforms other than ``none`` are positive."""
    p, options = inquiry.params(), inquiry.layer.options
    H = p["inv_dt"].shape[0]
    stored = tile_copies(p["A_real"], H)
    rate = tile_interval(enclosed_transform(options.real_transform, p["A_real"]), H)
    delta = enclosed_transform(options.dt_transform, p["inv_dt"])
    decides = [x for name, x in ((options.real_transform, stored), (options.dt_transform, p["inv_dt"])) if name == "none"]
    factors = (-np.ones_like(stored), *decides)
    decay = delta * rate
    if options.disc == "bilinear":
        zero = np.zeros_like(p["A_real"])
        imag_part = enclosed_transform(options.imag_transform, p["A_imag"]) if "A_imag" in p else Interval.exact(zero)
        decay = bilinear_rate(decay, delta * tile_interval(imag_part, H))
    formula = "the sign of -delta A_real, positive transforms left out"
    return Decay(sign=product_sign(factors), rate=decay, factors=factors, formula=formula)
