"""Examples of messages, made up from their schemas: the same each time, and what a reader expects to see."""

from typing import Any, Final

CARD: Final = "100000000008"
OTHER_CARD: Final = "100000000016"
CARD_PATTERN: Final = "^[0-9][0-9 -]*$"
MOMENT: Final = "2026-12-01T18:00:00Z"
_BY_NAME: Final[dict[str, Any]] = {
    "id": "3f1c9f0e-5a52-4f0b-9d2e-6a4d1c7b8e90",
    "reply_to": "web",
    "client": "web",
    "rev": 1,
    "offer": "sport",
    "products": ["sport"],
    "message": "m-1001",
    "to": {"all": True},
    "text": {"en": "Good evening", "fi": "Hyvää iltaa"},
    "names": {"en": "Sport", "fi": "Urheilu"},
    "heading": {"en": "Channels", "fi": "Kanavat"},
    "subscriber": "customer-4711",
    "subscription": "s-1001",
    "status": "committed",
    "code": "ok",
    "detail": "",
    "errors": [],
    "retryable": False,
    "multiplex": "mux-1",
    "remaining": ["mux-2"],
    "level": 12,
    "receiver": "01000000000001D8",
    "revision": 7,
    "command": "3f1c9f0e-5a52-4f0b-9d2e-6a4d1c7b8e90",
    "snapshot": "8d0f6a52-7c1e-4b60-a1f6-90c2d84e5b13",
    "state": "active",
    "item": "card",
    "items": {"card": 1, "offer": 1, "subscription": 1},
    "buckets": {"7f": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    "digest": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "hash": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "size": 512,
    "reason": "unpaid",
    "resource": "card",
    "verb": "suspend",
    "role": "active",
    "version": "0.1.0",
    "schemas": ["1.0"],
    "online": True,
    "on_air_by": "2026-12-01T18:00:10Z",
    "visible_by": "2026-12-01T18:01:10Z",
    "ends_at": "2027-03-01T00:00:00+02:00",
}
"""What a field of this name usually holds, wherever it stands and fits."""
_LEFT_OUT: Final = {"reply_to"}
_NOT_IN: Final = {"urn:cad:v1:command:offer:put": {"ends_at"}}
"""By the `$id` of a schema: fields that do not go with the kind that the example is of."""
_MOMENTS: Final = {_BY_NAME[name] for name in ("on_air_by", "visible_by", "ends_at")}


def sample(schema: dict[str, Any], *, whole: bool = False) -> dict[str, Any]:
    """Return an example for an object schema with its own `$defs`.

    It has the required fields and those with a usual value; all fields where `whole`.
    """
    made = _Sampler(schema.get("$defs", {}), whole).value(schema, "")
    return made if isinstance(made, dict) else {}


class _Sampler:
    def __init__(self, definitions: dict[str, Any], whole: bool) -> None:
        self._definitions = definitions
        self._whole = whole

    def value(self, schema: dict[str, Any], name: str) -> Any:
        """Return a value for a field of that name."""
        if "$ref" in schema:
            return self.value(self._definitions[schema["$ref"].rpartition("/")[2]], name)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return _BY_NAME[name] if _BY_NAME.get(name) in schema["enum"] else schema["enum"][0]
        for union in ("anyOf", "oneOf"):
            if union in schema:
                return self.value(schema[union][0], name)
        usual = _BY_NAME.get(name)
        return usual if _fits(schema, usual) else self._by_type(schema, name)

    def _by_type(self, schema: dict[str, Any], name: str) -> Any:
        match schema.get("type"):
            case "object":
                return self._object(schema)
            case "array":
                count = max(1, schema.get("minItems", 1))
                return [self.value(schema.get("items", {}), name.removesuffix("s"))] * count
            case "integer" | "number":
                return max(schema.get("minimum", schema.get("exclusiveMinimum", 0)), min(1, schema.get("maximum", 1)))
            case "boolean":
                return True
            case "string":
                return _text(schema, name)
            case _:
                return None

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        wanted = set(schema.get("required", [])) | ((_BY_NAME.keys() - _LEFT_OUT) if not self._whole else set())
        wanted -= _NOT_IN.get(schema.get("$id", ""), set())
        properties = schema.get("properties", {})
        made = {name: self.value(each, name) for name, each in properties.items() if self._whole or name in wanted}
        if not properties and "patternProperties" in schema:
            return {"en": self.value(next(iter(schema["patternProperties"].values())), "text")}
        return made


def _text(schema: dict[str, Any], name: str) -> str:
    if schema.get("format") == "date-time":
        return MOMENT
    if schema.get("pattern") == CARD_PATTERN:
        return CARD if name == "card" else OTHER_CARD
    return name.replace("_", "-") or "x"


def _fits(schema: dict[str, Any], usual: Any) -> bool:
    kind = {"object": dict, "array": list, "integer": int, "boolean": bool, "string": str}.get(schema.get("type", ""))
    if usual is None or kind is None or type(usual) is not kind or schema.get("pattern") == CARD_PATTERN:
        return False
    return (schema.get("format") == "date-time") == (usual in _MOMENTS if kind is str else False)
