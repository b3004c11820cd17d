"""Benchmarks against limits measured in the same run (operations.md section 8)."""
