"""The products of the shop and their reviews."""

from django.db import models


class Product(models.Model):  # type: ignore[misc]
    """A product with its price in euros."""

    name = models.CharField(max_length=20)
    euros = models.IntegerField()


class Review(models.Model):  # type: ignore[misc]
    """What a customer wrote about a product."""

    product = models.ForeignKey(Product, models.CASCADE, related_name="reviews")
    text = models.CharField(max_length=200)
