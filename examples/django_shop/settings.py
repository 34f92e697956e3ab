"""The minimal settings of a site. web-prom needs one line here and one in urls.py."""

SECRET_KEY = "not a secret: this shop has no sessions and signs nothing"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "django_shop.urls"

INSTALLED_APPS = [
    "django_prom",
]
