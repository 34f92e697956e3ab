"""An app with migrations, one of which replaces two others."""
