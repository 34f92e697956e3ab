"""Plugins for the pytest processes that run tests of other libraries."""
