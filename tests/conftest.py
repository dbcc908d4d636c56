"""Settings that all tests share."""

import os

from hypothesis import settings

# A shared or slow machine must not fail a property by its speed: pytest-timeout guards against hangs.
settings.register_profile("cad", deadline=None, print_blob=True)
# `make check` looks less long; `make test` looks in full.
settings.register_profile("quick", deadline=None, print_blob=True, max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "cad"))
