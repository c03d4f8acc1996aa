"""Where a model trains: devices, precision, threads and ranks."""
