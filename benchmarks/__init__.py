"""Benchmarks of web-prom: ``make bench``, or ``python -m benchmarks``. They are no tests of time limits."""
