"""Settings that all tests share."""

from hypothesis import settings

# A shared or slow machine must not fail a property by its speed: pytest-timeout guards against hangs.
settings.register_profile("cad", deadline=None, print_blob=True)
settings.load_profile("cad")
