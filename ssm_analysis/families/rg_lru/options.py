"""What the tensors of an RG-LRU layer do not tell, with the defaults of recurrentgemma."""

from dataclasses import dataclass

from ssm_analysis.families.shared.options import check_flag, check_number


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the RG-LRU.

    Parameters
    ----------
    c
        Exponent of the gate; 8 in every published model.
    epsilon
        Added under the root of the input gain; 1e-6 in the code of Hawk that goes with arXiv 2403.16899.
    reset_first
        Whether the first token of a document enters with gain 1, as in recurrentgemma.

    Raises
    ------
    ValueError
        If a value is not of this kind.
    """

    c: float = 8.0
    epsilon: float = 0.0
    reset_first: bool = True

    def __post_init__(self) -> None:
        check_number("c", self.c)
        check_number("epsilon", self.epsilon, low=0.0, words="a number from 0 on")
        check_flag("reset_first", self.reset_first)


DEFAULTS = Options()
