"""Formats of bars: one module for each, all with the interface of `Input`."""
