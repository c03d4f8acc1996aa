"""A run directory: its records, checkpoints, seen bars and out-of-fold logits, and what compares and gates runs."""
