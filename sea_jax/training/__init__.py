"""Fitting, the training step, its division over devices, checkpoints and the loop."""
