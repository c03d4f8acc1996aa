"""Fine-tuning a pre-trained encoder on labelled windows, and the report on it."""
