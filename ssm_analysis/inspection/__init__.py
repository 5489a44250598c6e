"""What the layers of a checkpoint are and what is wrong with them: rows, findings, comparisons, as plain data."""

from ssm_analysis.inspection.inspecting import inspect as inspect
