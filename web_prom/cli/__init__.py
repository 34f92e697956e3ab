"""The commands of ``web-prom``, which is also ``python -m web_prom``."""
