"""Decorators that measure functions and views: ``count``, ``time``, ``observe`` and ``track_in_progress``.

The names are public in :mod:`web_prom`.
"""
