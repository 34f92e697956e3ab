"""The URLs of the shop's pages, and of /metrics with ``django_prom.urls``."""

from django.urls import include, path
from django.views.decorators.http import require_POST, require_safe

from django_shop import views

urlpatterns = [
    path("", include("django_prom.urls")),
    path("", require_safe(views.index)),
    path("products/<int:number>", views.product),
    path("reviews", views.reviews),
    path("orders", require_POST(views.order)),
    path("search", views.search),
    path("report", views.report),
    path("catalogue.csv", views.catalogue),
    path("broken", views.broken),
]
