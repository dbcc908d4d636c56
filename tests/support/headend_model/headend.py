"""The headend: `take` says how a command is answered, `content` and `shown` what cards are to be told."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.headend_model import cards, messages, offers, subscriptions
from tests.support.headend_model.content import Content, Windows
from tests.support.headend_model.state import OPEN, Refused, State

RETRYABLE = (
    *("unknown_card", "unknown_offer", "unknown_subscription", "unknown_message"),
    *("card_not_assigned", "precondition_missing"),
)
COMMANDS: dict[str, Callable[..., None]] = {
    "card assign": cards.assign,
    "card suspend": cards.suspend,
    "card reopen": cards.reopen,
    "card report": cards.report,
    "card replace": cards.replace,
    "card return": cards.take_back,
    "card release": cards.release,
    "card blacklist": cards.blacklist,
    "card refresh": cards.refresh,
    "card pair": cards.pair,
    "card unpair": cards.unpair,
    "card region": cards.place,
    "card pin-reset": cards.reset_pin,
    "card parental": cards.set_level,
    "offer put": offers.put,
    "offer withdraw": offers.withdraw,
    "subscription put": subscriptions.put,
    "subscription end": subscriptions.end,
    "message put": messages.put_text,
    "message withdraw": messages.withdraw,
    "card message": messages.put_text,
    "card fingerprint": messages.put_fingerprint,
}


@dataclass(frozen=True)
class Answer:
    """What a reply says; `window` of the subscription that a command was about, where it was committed."""

    status: str
    code: str
    window: tuple[int, int | None] | None = None
    next_change_at: int | None = None


@dataclass
class HeadendModel(State):
    """The state, and the answers that were given."""

    answers: dict[tuple[str, str], tuple[Any, Answer]] = field(default_factory=dict)

    def take(self, operator: str, command: str, command_id: str, body: dict[str, Any], now: float) -> Answer:
        """Answer a command; `body` has cards as addresses, receivers as numbers and times in seconds."""
        said = (command, body)
        before = self.answers.get((operator, command_id))
        if before is not None and before[0] != said:
            return Answer("rejected", "id_reused")
        if before is not None and before[1].code not in RETRYABLE:
            return replace(before[1], status="duplicate")
        answer = self._carry_out(operator, command, body, now)
        self.answers[operator, command_id] = said, answer
        return answer

    def pass_time(self, now: float) -> None:
        """Do what comes by the clock alone."""
        cards.pass_time(self, now)

    def content(self, address: int) -> Content:
        """Return what a card is to be told: all rights, whenever they begin and end, and how it is set up."""
        card = self.cards[address]
        found: Windows = {}
        for (operator, _), service in self.services.items():
            if operator != card.operator or service.card != address:
                continue
            end = service.end
            if card.open_until is not None:
                end = card.open_until if end is None else min(end, card.open_until)
            if end is None or end > service.start:
                for product in self.opened(operator, service):
                    found.setdefault(product, []).append((service.start, end))
        windows = found if card.state in OPEN else None
        return Content(windows, card.receiver, card.region, card.level, card.pin_reset)

    def _carry_out(self, operator: str, command: str, body: dict[str, Any], now: float) -> Answer:
        free_at = None
        try:
            COMMANDS[command](self, operator, now, **body)
            code = "ok"
        except Refused as refused:
            code, free_at = refused.code, refused.next_change_at
        status = "committed" if code == "ok" else "rejected"
        if not command.startswith("subscription"):
            return Answer(status, code)
        name = body["subscription"]
        one = self.services.get((operator, name))
        window = (one.start, one.end) if one is not None and code == "ok" else None
        return Answer(status, code, window, free_at or subscriptions.next_change(self, operator, name, now))
