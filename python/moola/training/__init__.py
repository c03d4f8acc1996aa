"""Training: pre-training on millions of windows, and what judges it."""
