"""Files of every kind: publishing a directory, replacing a file, and the cores that work may use."""
