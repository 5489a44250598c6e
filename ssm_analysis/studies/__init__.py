"""Experiments that compose families, checkpoints and analyses."""

from ssm_analysis.studies.initial_eigenvalues import InitialEigenvalues as InitialEigenvalues
from ssm_analysis.studies.initial_eigenvalues import initial_eigenvalues as initial_eigenvalues
from ssm_analysis.studies.length_extension import extended as extended
from ssm_analysis.studies.marginal_stability import MarginalStability as MarginalStability
from ssm_analysis.studies.marginal_stability import marginal_stability_experiment as marginal_stability_experiment
from ssm_analysis.studies.small_signal import SmallSignal as SmallSignal
from ssm_analysis.studies.small_signal import small_signal as small_signal
