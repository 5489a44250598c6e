"""Certificates of stability: proved, refuted with a witness, or undecided with the reason."""

from ssm_analysis.certificates.certificate import Certificate as Certificate
from ssm_analysis.certificates.certificate import Quantity as Quantity
from ssm_analysis.certificates.input_set import LayerNorm as LayerNorm
from ssm_analysis.certificates.input_set import RMSNorm as RMSNorm
from ssm_analysis.certificates.theorems import THEOREMS as THEOREMS
from ssm_analysis.certificates.witness import Replay as Replay
from ssm_analysis.certificates.witness import Witness as Witness
