"""The time that templates take to be rendered (``PROM_TEMPLATES``)."""
