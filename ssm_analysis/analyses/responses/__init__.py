"""What comes out of a system: simulation, kernels, step and frequency responses."""
