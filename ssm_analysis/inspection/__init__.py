"""What the layers of a checkpoint are and what is wrong with them: rows, findings, comparisons, as plain data."""

from ssm_analysis.inspection.inspect import inspect as inspect
