"""Readers: their states, a watcher, a thread for each; all but the calls of PC/SC, which are in cards.pcsc."""
