"""Measurements of what the product promises: each module has `AIMS` and `run()`; `python -m bench` runs them all."""
