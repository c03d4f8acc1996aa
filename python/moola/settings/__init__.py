"""What users set: feature parameters, model, training and augmentation configuration, YAML. It needs no torch."""
