"""Metrics of several processes: the shared directory, the writing of values, and the reading of all files."""
