"""What the tensors of an S5 layer do not tell, with the defaults of the official implementation."""

from dataclasses import dataclass

from ssm_analysis.families.shared.options import check_flag
from ssm_analysis.families.shared.parameters import check_choice, check_positive

DISCRETIZATIONS = ("zoh", "bilinear")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of S5.

    Parameters
    ----------
    discretization
        ``zoh`` (zero-order hold) or ``bilinear``.
    conj_sym
        Whether one mode of each conjugate pair is stored, so that the output is 2 Re(C h) + D u.
    clip_eigs
        Whether the real parts of the eigenvalues are kept below -1e-4.
    step_rescale
        A factor on all steps: 2 reads a signal that was sampled half as often.

    Raises
    ------
    ValueError
        If a value is not one of these.
    """

    discretization: str = "zoh"
    conj_sym: bool = True
    clip_eigs: bool = False
    step_rescale: float = 1.0

    def __post_init__(self) -> None:
        check_choice("discretization", self.discretization, DISCRETIZATIONS)
        check_flag("conj_sym", self.conj_sym)
        check_flag("clip_eigs", self.clip_eigs)
        check_positive("step_rescale", self.step_rescale)


DEFAULTS = Options()
