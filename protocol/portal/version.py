"""The version of the portal's messages: the major one stands in every topic, the minor one rises with each addition.

Within a major version nothing that a portal relies on goes away or changes its meaning (docs/portal/README.md).
"""

from typing import Final

MAJOR: Final = 1
MINOR: Final = 0
SCHEMAS: Final = (f"{MAJOR}.{MINOR}",)
"""What a headend says of itself: one version for each major that it serves, the newest first."""
