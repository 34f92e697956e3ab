"""Many workers, one truth: the shared directory, the values written to it, and the merged view."""
