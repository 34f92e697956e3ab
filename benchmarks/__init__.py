"""What measuring costs: ``make bench``, or ``python -m benchmarks``. No test: nothing here asserts a time."""
