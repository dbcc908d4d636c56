# construct's own annotations contradict its documented use ("name" / Int8ub); to the type checkers it is untyped.
from typing import Any

def __getattr__(name: str) -> Any: ...
