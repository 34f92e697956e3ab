"""The shared directory: slots, locks, and its life with a server."""
