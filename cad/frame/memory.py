"""When cyclic garbage is looked for: never all of it while much is under way, for that holds up the event loop."""

import gc
from typing import Final

YOUNG: Final = 10_000
"""New objects between two looks at the youngest."""
MIDDLE: Final = 20
NEVER: Final = 1_000_000_000
BUSY_OBJECTS: Final = 200_000
"""With more objects than these beside those of the start a look at all would be a pause that is felt."""


def settle() -> None:
    """Take what there is for lasting, and stop looking through everything by itself.

    To be called once everything has been loaded. Python would go through all objects whenever their number has grown
    by a quarter: with a mass change under way these are millions, and every look holds all threads.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, NEVER)


def tidy() -> bool:
    """Look through everything but what is lasting, unless much is under way; return whether that was done."""
    _, _, since_the_last = gc.get_count()
    if since_the_last and len(gc.get_objects(generation=2)) > BUSY_OBJECTS:
        return False
    gc.collect()
    return True
