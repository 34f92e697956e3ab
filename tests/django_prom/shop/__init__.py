"""An app with models, for tests that install it."""
