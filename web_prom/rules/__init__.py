"""Recording and alert rules for Prometheus, by the tables of names that the exporter uses."""
