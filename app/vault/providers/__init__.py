"""Where root keys live: one file per provider."""
