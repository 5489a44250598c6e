"""Certificates for layers, systems, whole checkpoints and the residual stream of a model."""
