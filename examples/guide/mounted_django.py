"""Metrics mounted in the URLs of a Django project, which is one file.

::

    gunicorn --bind 127.0.0.1:8000 guide.mounted_django
"""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

settings.configure(
    SECRET_KEY="not a secret: nothing is signed here",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django_prom"],
    PROM_PATH="",  # the middleware measures, and answers no scrapes
)
application = get_wsgi_application()

from django_prom.views import metrics  # noqa: E402  # after the settings


def teapot(_request: HttpRequest, number: int) -> JsonResponse:
    return JsonResponse({"teapot": number})


urlpatterns = [path("teapots/<int:number>", teapot), path("internal/metrics", metrics)]
