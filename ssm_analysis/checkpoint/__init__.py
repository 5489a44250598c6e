"""Trained weights on disk or in memory: names, shapes and stored precisions at once, numbers when asked."""

from ssm_analysis.checkpoint.opening import open_tensors as open_tensors
from ssm_analysis.checkpoint.store import CheckpointError as CheckpointError
from ssm_analysis.checkpoint.store import TensorStore as TensorStore
