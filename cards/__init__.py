"""The card: its commands, the software card, and the one door to PC/SC."""
