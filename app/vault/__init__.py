"""Keys, envelopes and shredding; knows no law."""
