"""What the tensors of an S6 layer do not tell, with the defaults of the official implementation of Mamba."""

from dataclasses import dataclass

from ssm_analysis.families.shared.options import check_number
from ssm_analysis.families.shared.parameters import check_choice, check_positive

PADDINGS = ("causal", "same")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of S6.

    Parameters
    ----------
    conv_padding
        ``causal``, or ``same`` for bidirectional variants whose convolution is centered.
    dt_offset
        A number added to the step behind softplus; 0 in the official implementation.
    mixer_rms_eps
        With a number, r, B and C are divided by their root mean squares, with this added under the root; None: they are not. In the
        configuration of Jamba its name is ``rms_norm_eps``. Both have 1e-6 by default.
    delta_scale
        A factor on the step, last of all: 1 in the original, below 1 to stretch time (MambaExtend).

    Raises
    ------
    ValueError
        If a value is not of this kind.
    """

    conv_padding: str = "causal"
    dt_offset: float = 0.0
    mixer_rms_eps: float | None = None
    delta_scale: float = 1.0

    def __post_init__(self) -> None:
        check_choice("conv_padding", self.conv_padding, PADDINGS)
        check_number("dt_offset", self.dt_offset)
        if self.mixer_rms_eps is not None:
            check_number("mixer_rms_eps", self.mixer_rms_eps, low=0.0, words="a number from 0 on")
        check_positive("delta_scale", self.delta_scale)


DEFAULTS = Options()
