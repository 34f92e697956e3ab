"""Models in each relation that Django has: proxy, multi-table inheritance, swapped, many-to-many, cascade."""

from __future__ import annotations

from django.db import models


class Order(models.Model):  # type: ignore[misc]
    """A model without relations, which Django deletes by one statement."""

    number = models.IntegerField(default=0)


class UrgentOrder(Order):
    """A proxy."""

    class Meta:
        proxy = True


class GiftOrder(Order):
    """A child by multi-table inheritance."""

    text = models.TextField(default="")


class Line(models.Model):  # type: ignore[misc]
    """A model whose objects are deleted with those of another one."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE)
    tags = models.ManyToManyField("Tag")


class Tag(models.Model):  # type: ignore[misc]
    """The other side of a many-to-many field."""


class Customer(models.Model):  # type: ignore[misc]
    """A model that a setting can replace."""

    class Meta:
        swappable = "SHOP_CUSTOMER_MODEL"
