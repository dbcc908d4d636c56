"""Who technicians are and what each role may do. Pure; the table is the truth, docs/operator.md shows it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cad.technicians.errors import NotAllowedError
from config.technicians import PersonSettings, Role


class Act(StrEnum):
    """What can be asked of the headend; stands in the audit as it is here."""

    LOOK = "look"
    PROVE = "prove"
    EMM = "emm"
    EXTRACT = "extract"
    VISITS = "visits"
    ACTS = "acts"


_MAY: Final[Mapping[Role, frozenset[Act]]] = {
    "read-only": frozenset({Act.LOOK}),
    "technician": frozenset({Act.LOOK, Act.PROVE, Act.EMM, Act.EXTRACT, Act.VISITS}),
    "operator": frozenset(Act),
}


@dataclass(frozen=True, slots=True)
class Person:
    """A person by the common name of the certificate; works for one operator."""

    name: str
    operator: str
    role: Role

    def need(self, act: Act) -> None:
        """Raise NotAllowedError when the role does not include the act."""
        if act not in _MAY[self.role]:
            raise NotAllowedError(
                f"{self.name} has the role {self.role}, which does not include {act.value!r};"
                " the headend's operator gives roles (technicians.people of its settings)"
            )


class People:
    """Everybody whom the settings name; `follow` them when they change."""

    def __init__(self, people: Iterable[PersonSettings]) -> None:
        self._by_name: Mapping[str, Person] = {}
        self.follow(people)

    def follow(self, people: Iterable[PersonSettings]) -> None:
        """Take the settings as they are now: who no longer stands there gets in no more."""
        self._by_name = {one.name: Person(one.name, one.operator, one.role) for one in people}

    def find(self, common_name: str | None) -> Person:
        """The person of a certificate. Raises NotAllowedError for one that the settings do not name."""
        person = self._by_name.get(common_name or "")
        if person is None:
            raise NotAllowedError(
                f"the certificate of {common_name!r} is not one that this headend knows;"
                " the headend's operator adds it to technicians.people"
            )
        return person
