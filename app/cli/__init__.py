"""The regard command."""
