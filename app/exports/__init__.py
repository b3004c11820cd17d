"""Generalisation, risk and the release gate; knows no law."""
