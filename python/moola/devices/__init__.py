"""Devices, precision, threads and ranks for training."""
