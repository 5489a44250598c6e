"""Experiments that compose families, checkpoints and analyses."""

from ssm_analysis.studies.initialization import InitialEigenvalues as InitialEigenvalues
from ssm_analysis.studies.initialization import initial_eigenvalues as initial_eigenvalues
from ssm_analysis.studies.length_extension import slow_down as slow_down
from ssm_analysis.studies.linearization import SmallSignal as SmallSignal
from ssm_analysis.studies.linearization import small_signal as small_signal
from ssm_analysis.studies.marginal_stability import MarginalStability as MarginalStability
from ssm_analysis.studies.marginal_stability import marginal_stability_experiment as marginal_stability_experiment
