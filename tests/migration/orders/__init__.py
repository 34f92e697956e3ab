"""A Django app with one model."""
