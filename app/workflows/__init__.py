"""Plan steps bound to effects, durably; the only room that knows DBOS."""
