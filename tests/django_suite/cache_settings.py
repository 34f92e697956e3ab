"""Settings for Django's own tests of caches."""

from __future__ import annotations

import json
import os
from typing import Any

DATABASES = {alias: {"ENGINE": "django.db.backends.sqlite3"} for alias in ("default", "other")}
SECRET_KEY = "tests"
USE_TZ = False
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
TEST_RUNNER = "tests.django_suite.runner.Runner"
PROM_CACHE = True

# Django tests the backends that it finds here.
LOCMEM = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
CACHES: dict[str, dict[str, Any]] = {"default": LOCMEM, **json.loads(os.environ["SUITE_CACHES"])}
