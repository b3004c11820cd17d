"""An append-only RFC 6962 tree with signed checkpoints; knows no law."""
