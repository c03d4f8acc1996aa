"""Run directories: records, checkpoints, seen bars and out-of-fold logits; comparisons of runs and gates."""
