"""Settings: their names, defaults, checks and sources."""

from web_prom.config.settings import (
    DEFAULT_DURATION_BUCKETS,
    DEFAULT_SIZE_BUCKETS,
    FIELDS,
    PREFIX,
    Config,
)

__all__ = ["DEFAULT_DURATION_BUCKETS", "DEFAULT_SIZE_BUCKETS", "FIELDS", "PREFIX", "Config"]
