"""What the tensors of an S4D layer do not tell, with the defaults of version 4 of the official implementation."""

from dataclasses import dataclass

from ssm_analysis.families.shared.options import check_flag
from ssm_analysis.families.shared.parameters import check_choice
from ssm_analysis.families.shared.transforms import check_transform

DISCRETIZATIONS = ("zoh", "bilinear")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of S4D.

    Parameters
    ----------
    dt_transform, real_transform, imag_transform
        ``exp``, ``softplus``, ``relu``, ``sigmoid`` or ``none``: what turns inv_dt, A_real and A_imag into delta, -Re A and -Im A.
    disc
        Discretization: ``zoh`` (zero-order hold) or ``bilinear``.
    strictly_causal
        Whether the output at a token leaves out the input at that token.

    Raises
    ------
    ValueError
        If a value is not one of these.
    """

    dt_transform: str = "exp"
    real_transform: str = "exp"
    imag_transform: str = "none"
    disc: str = "zoh"
    strictly_causal: bool = False

    def __post_init__(self) -> None:
        for name in ("dt_transform", "real_transform", "imag_transform"):
            check_transform(name, getattr(self, name))
        check_choice("disc", self.disc, DISCRETIZATIONS)
        check_flag("strictly_causal", self.strictly_causal)


DEFAULTS = Options()
