"""Settings: their names, defaults, parsers and sources."""

from web_prom.config.raw_values import PREFIX
from web_prom.config.settings import DEFAULT_DURATION_BUCKETS, FIELDS, Config
from web_prom.metrics.conventions import DEFAULT_SIZE_BUCKETS

__all__ = ["DEFAULT_DURATION_BUCKETS", "DEFAULT_SIZE_BUCKETS", "FIELDS", "PREFIX", "Config"]
