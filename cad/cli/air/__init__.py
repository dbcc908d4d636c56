"""Commands about what is on the air."""
