"""Typed declarative records without behaviour."""
