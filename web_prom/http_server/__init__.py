"""A small HTTP server for scrapes."""
