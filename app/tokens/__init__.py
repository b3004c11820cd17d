"""Signing keys, minting and checking of tokens and proofs; knows no law."""
