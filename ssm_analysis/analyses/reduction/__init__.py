"""Systems with fewer states: balanced and modal reduction."""

from ssm_analysis.analyses.reduction.balanced import Reduction as Reduction
from ssm_analysis.analyses.reduction.balanced import balanced_truncation as balanced_truncation
from ssm_analysis.analyses.reduction.balanced import reduction_error as reduction_error
from ssm_analysis.analyses.reduction.balanced import singular_perturbation as singular_perturbation
from ssm_analysis.analyses.reduction.modal import ModalReduction as ModalReduction
from ssm_analysis.analyses.reduction.modal import modal_gains as modal_gains
from ssm_analysis.analyses.reduction.modal import modal_singular_perturbation as modal_singular_perturbation
from ssm_analysis.analyses.reduction.modal import modal_truncation as modal_truncation
