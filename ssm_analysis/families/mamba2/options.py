"""What the tensors of a Mamba-2 layer do not tell, with the defaults of the official implementation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ssm_analysis.families.shared.options import check_count, check_flag, check_number, is_number
from ssm_analysis.families.shared.parameters import check_positive

UNLIMITED = (0.0, math.inf)
ONES = (1.0, 1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of Mamba-2.

    Parameters
    ----------
    n_groups
        Groups of heads that share B and C. The parameters tell only n_groups d_state.
    d_ssm
        Channels of the recurrence, where a gated MLP takes part of the rows of in_proj; None: there is no MLP.
    D_has_hdim
        Whether D has an entry for each channel instead of each head.
    time_step_limit
        The smallest and the largest step; the step is clamped to them behind softplus.
    ssm_in_multiplier, ssm_multipliers
        Factors of Falcon-H1: on ``u``, and on what in_proj makes of it, five numbers for z, x, B, C and r.
    delta_scale
        A factor on the step, last of all: 1 in the original, below 1 to stretch time (MambaExtend).

    Raises
    ------
    ValueError
        If a value is not of this kind.
    """

    n_groups: int = 1
    d_ssm: int | None = None
    D_has_hdim: bool = False
    time_step_limit: Sequence[float] = UNLIMITED
    ssm_in_multiplier: float = 1.0
    ssm_multipliers: Sequence[float] = ONES
    delta_scale: float = 1.0

    def __post_init__(self) -> None:
        check_count("n_groups", self.n_groups)
        if self.d_ssm is not None:
            check_count("d_ssm", self.d_ssm)
        check_flag("D_has_hdim", self.D_has_hdim)
        limit = self.time_step_limit
        if len(limit) != 2 or not all(map(is_number, limit)) or not 0 <= limit[0] <= limit[1]:
            raise ValueError(f"time_step_limit must be two numbers with 0 <= low <= high, got {limit!r}")
        check_number("ssm_in_multiplier", self.ssm_in_multiplier)
        if len(self.ssm_multipliers) != len(ONES) or not all(is_number(x) and math.isfinite(x) for x in self.ssm_multipliers):
            raise ValueError(f"ssm_multipliers must be five finite numbers, for z, x, B, C and r; got {self.ssm_multipliers!r}")
        check_positive("delta_scale", self.delta_scale)


DEFAULTS = Options()
