"""Notices: what a card is told to have shown on the screen. Messages and fingerprints, in EMMs of format 2."""
