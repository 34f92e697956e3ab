"""The settings of a small site. web-prom needs one line here and one in urls.py.

PROM_DATABASE and PROM_CACHE add the database and the cache to the metrics.
"""

SECRET_KEY = "not a secret: this shop has no sessions and signs nothing"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "django_shop.urls"

INSTALLED_APPS = [
    "django_prom",
    "django_shop",
]
PROM_DATABASE = PROM_CACHE = True

# SQLite in the memory of each worker, which all threads share.
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:shop?mode=memory&cache=shared"}
}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
