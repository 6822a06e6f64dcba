"""Flax modules: parameters, graph and features to a Representation."""
