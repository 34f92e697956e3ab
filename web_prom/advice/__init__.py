"""Verdicts on a service from its own metrics: each a sentence, its numbers, and a remedy."""
