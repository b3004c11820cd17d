"""Mechanisms, plumbing and doors of Regard. `docs/floor-plan.md` says which room may import which."""
