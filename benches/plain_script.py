"""The script that `build_process.py` compares with: reads bars, and writes and fsyncs as many bytes as a store has."""

import os
import sys

import pyarrow.parquet as pq

source, output, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
table = pq.read_table(source, columns=["timestamp", "open", "high", "low", "close"])
block = os.urandom(1 << 20)
with open(output, "wb") as file:
    for start in range(0, size, len(block)):
        file.write(block[: size - start])
    file.flush()
    os.fsync(file.fileno())
