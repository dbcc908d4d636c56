"""The part of pyscard that cards/pcsc.py uses."""
