"""Views of Django REST framework."""

from __future__ import annotations

from typing import Any

from rest_framework.decorators import action, api_view
from rest_framework.exceptions import APIException
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter
from rest_framework.viewsets import ViewSet

from django_prom import exclude


class Users(ViewSet):  # type: ignore[misc]
    """A resource without storage."""

    def list(self, request: Any, **kwargs: object) -> Any:
        return Response([1, 2])

    def retrieve(self, request: Any, pk: str, **kwargs: object) -> Any:
        return Response({"pk": pk})

    def create(self, request: Any, **kwargs: object) -> Any:
        return Response(request.data, status=201)

    @action(detail=True)  # type: ignore[untyped-decorator]
    def orders(self, request: Any, pk: str, **kwargs: object) -> Any:
        return Response([])

    @action(detail=False)  # type: ignore[untyped-decorator]
    def refused(self, request: Any, **kwargs: object) -> Any:
        raise APIException

    @action(detail=False)  # type: ignore[untyped-decorator]
    def broken(self, request: Any, **kwargs: object) -> Any:
        raise RuntimeError


@exclude
class Internals(ViewSet):  # type: ignore[misc]
    """An excluded resource."""

    def list(self, request: Any, **kwargs: object) -> Any:
        return Response([])


@api_view(["GET"])  # type: ignore[untyped-decorator]
def version(request: Any) -> Any:
    return Response("1")


router = DefaultRouter()
router.register("users", Users, basename="user")
router.register("internals", Internals, basename="internal")
