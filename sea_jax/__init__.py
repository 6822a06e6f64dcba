"""SEA: separate learning for multimodal recommendation, in JAX and Flax (arXiv 2406.08270)."""
