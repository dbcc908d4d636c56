"""An operator's whole catalogue in one document: each offer as `offer put` takes it, without id and rev."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from protocol.errors import ProtocolError
from protocol.portal.commands.offers import OfferPut
from protocol.portal.commands.parsing import field_error
from protocol.portal.errors import FieldError
from protocol.portal.fields import Slug, Texts

OFFERS_MAX: Final = 1000
KEYS: Final = ("operator", "headings", "offers")
OFFER_KEYS: Final = tuple(name for name in OfferPut.model_fields if name not in ("id", "reply_to", "rev"))
_SLUG: Final[TypeAdapter[str]] = TypeAdapter(Slug)
_TEXTS: Final[TypeAdapter[dict[str, str]]] = TypeAdapter(Texts)
_OFFER: Final[TypeAdapter[OfferPut]] = TypeAdapter(OfferPut)

T = TypeVar("T")


class CatalogueError(ProtocolError):
    """A catalogue that cannot be used. `errors` is all there is to mend, each with its path in the document."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        lines = [f"  {one.field}: {one.text}" if one.field else f"  {one.text}" for one in errors]
        super().__init__("\n".join(["the catalogue cannot be used:", *lines]))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What an operator sells, each offer with rev 0 and without an id."""

    operator: str
    offers: tuple[OfferPut, ...]


def read(document: object) -> Catalogue:
    """Read a catalogue out of what JSON or TOML gave; times as text. Raises CatalogueError with every problem.

    An offer's `heading` may be the name of one of `headings`, so that it stands in the document once.
    """
    if not isinstance(document, Mapping):
        raise CatalogueError((FieldError("", "should be a table with operator and offers"),))
    errors = [_unknown(key, key, KEYS) for key in document if key not in KEYS]
    operator = _take(_SLUG, document.get("operator"), "operator", errors)
    headings = _headings(document.get("headings", {}), errors)
    listed = document.get("offers")
    if not isinstance(listed, list) or not 1 <= len(listed) <= OFFERS_MAX:
        errors.append(FieldError("offers", f"should be a list of 1 to {OFFERS_MAX} offers"))
        listed = []
    offers: dict[str, OfferPut] = {}
    for number, entry in enumerate(listed):
        offer = _offer(entry, f"offers.{number}", headings, errors)
        if offer is not None and offer.offer in offers:
            errors.append(FieldError(f"offers.{number}.offer", f"{offer.offer} stands in the catalogue twice"))
        elif offer is not None:
            offers[offer.offer] = offer
    if errors or operator is None:
        raise CatalogueError(tuple(errors))
    return Catalogue(operator, tuple(offers.values()))


def _headings(found: object, errors: list[FieldError]) -> Mapping[str, object]:
    if not isinstance(found, Mapping):
        errors.append(FieldError("headings", "should be a table: name → texts"))
        return {}
    for name, texts in found.items():
        _take(_SLUG, name, f"headings.{name}", errors)
        _take(_TEXTS, texts, f"headings.{name}", errors)
    return found


def _offer(entry: object, where: str, headings: Mapping[str, object], errors: list[FieldError]) -> OfferPut | None:
    if not isinstance(entry, Mapping):
        errors.append(FieldError(where, "should be a table"))
        return None
    found = [_unknown(f"{where}.{key}", str(key), OFFER_KEYS) for key in entry if key not in OFFER_KEYS]
    body: dict[str, Any] = {key: value for key, value in entry.items() if key in OFFER_KEYS}
    if isinstance(name := body.get("heading"), str):
        del body["heading"]
        if name in headings:
            body["heading"] = headings[name]
        else:
            found.append(FieldError(f"{where}.heading", f"there is no {name} among the headings"))
    offer = _take(_OFFER, {**body, "rev": 0}, where, found)
    errors += found
    return None if found else offer


def _take(kind: TypeAdapter[T], value: object, where: str, errors: list[FieldError]) -> T | None:
    """Check one value as it would come in a command; note what is wrong with it."""
    if value is None:
        errors.append(FieldError(where, "is missing"))
        return None
    try:
        return kind.validate_json(json.dumps(value))
    except RecursionError:
        errors.append(FieldError(where, "is nested too deeply"))
        return None
    except ValidationError as error:
        for details in error.errors(include_url=False, include_input=False, include_context=False):
            one = field_error(details)
            errors.append(FieldError(f"{where}.{one.field}" if one.field else where, one.text))
        return None


def _unknown(where: str, key: str, known: Sequence[str]) -> FieldError:
    near = difflib.get_close_matches(key, known, 1)
    advice = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return FieldError(where, f"unknown key; {advice}")
