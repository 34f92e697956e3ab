"""The commands of ``python -m web_prom`` that look at a running service."""
