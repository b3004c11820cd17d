"""Doors: guard, problems, locale, headers, sessions."""
