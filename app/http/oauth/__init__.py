"""The authorization server; the only room that knows Authlib."""
