"""Stable codes of answers: what a portal may branch on. Texts may change, codes never do."""

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final


@unique
class Code(StrEnum):
    """Why a command was answered as it was."""

    OK = "ok"
    # In a reply, status `rejected`.
    INVALID = "invalid"
    STALE_REV = "stale_rev"
    ID_REUSED = "id_reused"
    UNKNOWN_CARD = "unknown_card"
    UNKNOWN_OFFER = "unknown_offer"
    UNKNOWN_SUBSCRIPTION = "unknown_subscription"
    CARD_IN_USE = "card_in_use"
    CARD_STATE = "card_state"
    CARD_NOT_ASSIGNED = "card_not_assigned"
    CARD_BLACKLISTED = "card_blacklisted"
    CARD_HAS_SUBSCRIPTIONS = "card_has_subscriptions"
    CARD_FULL = "card_full"
    NOT_SUSPENDED = "not_suspended"
    NEEDS_AUTHORITY = "needs_authority"
    MINIMUM_TERM = "minimum_term"
    FIXED_TERM = "fixed_term"
    PRECONDITION_MISSING = "precondition_missing"
    NOT_GRANTED = "not_granted"
    UNKNOWN_MESSAGE = "unknown_message"
    UNKNOWN_SERVICE = "unknown_service"
    MESSAGES_FULL = "messages_full"
    KIND_FIXED = "kind_fixed"
    OFFER_WITHDRAWN = "offer_withdrawn"
    CHOICE_NEEDED = "choice_needed"
    CHOICE_NOT_OFFERED = "choice_not_offered"
    CHOICE_COUNT = "choice_count"
    CHOICE_NOT_LISTED = "choice_not_listed"
    CHOICE_LOCKED = "choice_locked"
    UNKNOWN_REGION = "unknown_region"
    EVENT_OVER = "event_over"
    TOO_MANY_EVENTS = "too_many_events"
    EVENT_NUMBERS_USED = "event_numbers_used"
    UNKNOWN_SNAPSHOT = "unknown_snapshot"
    BUSY = "busy"
    INTERNAL = "internal"
    # In a message on `rej`.
    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
    UNKNOWN_COMMAND = "unknown_command"
    UNKNOWN_OPERATOR = "unknown_operator"
    BAD_ID = "bad_id"
    BAD_REPLY_TOPIC = "bad_reply_topic"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code says to a person, and whether the same command, sent again later as it is, may succeed."""

    text: str
    retryable: bool = False


MEANINGS: Final[dict[Code, Meaning]] = {
    Code.OK: Meaning("Done: stored safely, and on its way to the card where there is anything to send."),
    Code.INVALID: Meaning("The message breaks its schema; `errors` names each field. Mend it and send it again."),
    Code.STALE_REV: Meaning("A command with this `rev` or a higher one has been taken already; nothing was changed."),
    Code.ID_REUSED: Meaning("This id was used for a command with another content. Give each command an id of its own."),
    Code.UNKNOWN_CARD: Meaning(
        "No card of yours has this number: it is not in your ranges, or was never assigned.", retryable=True
    ),
    Code.UNKNOWN_OFFER: Meaning("You have no offer of this name; send `offer put` first.", retryable=True),
    Code.UNKNOWN_SUBSCRIPTION: Meaning(
        "You have no subscription of this name; send `subscription put` first.", retryable=True
    ),
    Code.CARD_IN_USE: Meaning("The card is assigned to another subscriber."),
    Code.CARD_STATE: Meaning("The card's state does not allow this; `detail` says which state it is in."),
    Code.CARD_NOT_ASSIGNED: Meaning("The card is in nobody's hands; send `card assign` first.", retryable=True),
    Code.CARD_BLACKLISTED: Meaning("The card is blacklisted for ever and will not be used again. Take another card."),
    Code.CARD_HAS_SUBSCRIPTIONS: Meaning("The card still has subscriptions. End them or move them first."),
    Code.NOT_SUSPENDED: Meaning("The card is not suspended: there is nothing to reopen for a time."),
    Code.NEEDS_AUTHORITY: Meaning("This service cannot be ended in the portal. Please contact customer service."),
    Code.MINIMUM_TERM: Meaning("The minimum duration is not over; `detail` says when the service can end."),
    Code.FIXED_TERM: Meaning("The service runs for a fixed term, from its start to the end that `detail` names."),
    Code.PRECONDITION_MISSING: Meaning(
        "The card lacks a service that this one presupposes; `detail` names it.", retryable=True
    ),
    Code.CARD_FULL: Meaning("The card would hold more rights than fit into its EMM. End some subscriptions first."),
    Code.NOT_GRANTED: Meaning("The headend has not granted you a product of this offer. Ask the headend operator."),
    Code.KIND_FIXED: Meaning(
        "An offer does not become a mix or an event, nor one of these another kind. Put a new offer instead."
    ),
    Code.OFFER_WITHDRAWN: Meaning("This offer is not sold any more."),
    Code.CHOICE_NEEDED: Meaning("Please choose: the offer is a selection out of a list; `choice` is missing."),
    Code.CHOICE_NOT_OFFERED: Meaning("There is nothing to choose in this offer; leave `choice` out."),
    Code.CHOICE_COUNT: Meaning("Please choose exactly as many as the offer has; `detail` says how many that are."),
    Code.CHOICE_NOT_LISTED: Meaning("Something chosen is not on the offer's list; `detail` names it."),
    Code.CHOICE_LOCKED: Meaning(
        "The selection can be changed once in a calendar month; `next_change_at` says from when on it can again."
    ),
    Code.UNKNOWN_REGION: Meaning("The headend's settings have no such region in your network; `detail` names them."),
    Code.EVENT_OVER: Meaning("The event is over: it can be neither bought nor changed any more."),
    Code.TOO_MANY_EVENTS: Meaning("As many events run on this service at that time as its ECMs have room for."),
    Code.EVENT_NUMBERS_USED: Meaning(
        "All numbers that the headend keeps for events are in use at that time. Ask the headend operator for more."
    ),
    Code.UNKNOWN_SNAPSHOT: Meaning(
        "You have no snapshot of this name: it is kept for an hour, and not over a restart. Request a new one."
    ),
    Code.BUSY: Meaning("The headend has too much of this to do at the moment; nothing was done.", retryable=True),
    Code.UNKNOWN_MESSAGE: Meaning(
        "You have no message of this name; `message put`, `card message` and `card fingerprint` make one.",
        retryable=True,
    ),
    Code.UNKNOWN_SERVICE: Meaning("No product of yours has a service of this name. Ask the headend operator."),
    Code.MESSAGES_FULL: Meaning(
        "You have 100 messages on the air or ordered for later. Withdraw some, or wait until they end.", retryable=True
    ),
    Code.INTERNAL: Meaning(
        "The headend failed on this command alone; nothing was changed. Tell the headend operator.", retryable=True
    ),
    Code.UNREADABLE: Meaning("The message is not a JSON object in UTF-8."),
    Code.TOO_LARGE: Meaning("The message is larger than a command may be."),
    Code.UNKNOWN_COMMAND: Meaning("There is no command on this topic; resource and verb are misspelt or not offered."),
    Code.UNKNOWN_OPERATOR: Meaning("The operator in the topic is not in the headend's settings."),
    Code.BAD_ID: Meaning(
        "The command has no usable id: missing, malformed, or not the same in the payload and in the user property."
    ),
    Code.BAD_REPLY_TOPIC: Meaning("The response topic does not lie in your own cad/v1/{operator}/rep/."),
}


def text(code: Code) -> str:
    """Return the code's standing text."""
    return MEANINGS[code].text


def retryable(code: Code) -> bool:
    """Return whether the same command may succeed when it is sent again later as it is."""
    return MEANINGS[code].retryable
