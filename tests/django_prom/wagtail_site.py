"""A Wagtail site with two types of pages and the preview of one. It prints the counted requests."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import django
from django.conf import settings

FOLDER = Path(sys.argv[1])
LABEL = "wagtail_site_pages"

package = sys.modules[LABEL] = ModuleType(LABEL)
package.__path__ = [str(FOLDER)]
package.__file__ = str(FOLDER / "__init__.py")
urls = sys.modules["wagtail_site_urls"] = ModuleType("wagtail_site_urls")


class NoMigrations(dict[str, None]):
    """Creates tables from the models, which takes a tenth of the time of migrations."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> None:
        return None


settings.configure(
    MIGRATION_MODULES=NoMigrations(),
    INSTALLED_APPS=[
        "django_prom",
        LABEL,
        "wagtail.users",
        "wagtail.images",
        "wagtail.documents",
        "wagtail.admin",
        "wagtail",
        "modelcluster",
        "taggit",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
    ],
    ROOT_URLCONF="wagtail_site_urls",
    SECRET_KEY="tests",
    ALLOWED_HOSTS=["testserver", "localhost"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    STATIC_URL="/static/",
    USE_TZ=True,
    WAGTAIL_SITE_NAME="tests",
    WAGTAILADMIN_BASE_URL="http://testserver",
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import include, path  # noqa: E402
from prometheus_client import REGISTRY  # noqa: E402
from wagtail import urls as wagtail_urls  # noqa: E402
from wagtail.models import Locale, Page, Site  # noqa: E402


class HomePage(Page):  # type: ignore[misc]
    class Meta:
        app_label = LABEL

    def serve(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse("home")


class BlogPage(Page):  # type: ignore[misc]
    class Meta:
        app_label = LABEL

    def serve(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse("blog")

    def serve_preview(self, request: Any, mode_name: str) -> HttpResponse:
        return HttpResponse("preview")


def preview(request: Any) -> Any:
    return BlogPage.objects.first().make_preview_request(original_request=request)


urls.urlpatterns = [path("preview/", preview), path("", include(wagtail_urls))]  # type: ignore[attr-defined]

call_command("migrate", run_syncdb=True, verbosity=0)
with connection.schema_editor() as editor:  # the package has no module of models
    editor.create_model(HomePage)
    editor.create_model(BlogPage)
Locale.objects.create(language_code="en")
home = Page.add_root(instance=HomePage(title="Home", slug="home-page"))
for title in ("one", "two"):
    home.add_child(instance=BlogPage(title=title, slug=title))
Site.objects.create(hostname="testserver", root_page=home, is_default_site=True)

client = Client()
for where, status in [("/", 200), ("/one/", 200), ("/two/", 200), ("/three/", 404), ("/a/b/", 404)]:
    assert client.get(where).status_code == status, where
assert client.get("/preview/").content == b"preview"
for family in REGISTRY.collect():
    for sample in family.samples:
        if sample.name == "http_requests_total":
            labels = sample.labels
            print("counted", labels["method"], labels["route"], labels["status"], sample.value)
