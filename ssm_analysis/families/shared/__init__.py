"""What several families share: HiPPO matrices, transforms of parameters, layouts, checks, the short convolution."""
