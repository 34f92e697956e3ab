"""The exporter: a process of its own that answers scrapes for all workers that share a directory."""
