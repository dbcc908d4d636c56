"""Resync (C5): snapshots of what an operator has, for its portal to compare with what it believes to have."""
