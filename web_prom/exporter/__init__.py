"""The exporter: a separate process that answers scrapes for all workers that share a directory."""
