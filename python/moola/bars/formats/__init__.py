"""Inputs of bars, one file a format, all with the interface of `Input`."""
