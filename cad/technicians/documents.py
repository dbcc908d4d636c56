"""What headend and laptop say to each other: pydantic documents, one declaration for both sides and for the docs.

Times are UTC in Unix seconds; card numbers as printed; bytes in hexadecimal.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cards.authentication import CHALLENGE_SIZE, PROOF_SIZE
from config.technicians import Role

VISITS_MAX = 500
CARDS_NAMED_MAX = 1000
Number = Annotated[str, Field(pattern=r"^[0-9]{12}$")]
Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$", max_length=1024)]
Words = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Time = Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]
Challenge = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{2 * CHALLENGE_SIZE}}}$")]
ProofHex = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{2 * PROOF_SIZE}}}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Document(BaseModel):
    """Frozen; unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RightFact(Document):
    """A right of the ledger: `end` null is until further notice."""

    product_id: Annotated[int, Field(ge=1, le=0xFFFF)]
    start: Annotated[int, Field(ge=0)]
    end: int | None


class CardFact(Document):
    """A card as the ledger has it. `suspended`: it is to open nothing; rights are without regard to that.

    `receiver`: number of the one receiver that it serves; null: any. `parental`: age from which on it asks for its PIN;
    `pin_reset`: revision under which the newest reset of the PIN was ordered; 0: none. `region`: number of
    its region; 0: none.
    """

    number: Number
    state: str
    suspended: bool
    reason: str | None
    key_version: Annotated[int, Field(ge=0, le=255)]
    revision: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]
    changed_at: float
    rights: tuple[RightFact, ...]
    receiver: Annotated[str, Field(pattern=r"^[0-9A-F]{16}$")] | None = None
    parental: Annotated[int, Field(ge=0, le=18)] = 0
    pin_reset: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)] = 0
    region: Annotated[int, Field(ge=0, le=0xFFFF)] = 0


class ProductFact(Document):
    """A product with the names of its channels."""

    product_id: int
    product: str
    services: tuple[str, ...]


class CalendarFact(Document):
    """The calendar by which periods and epochs are counted."""

    period_days: int
    epoch_periods: int
    overlap_periods: int


class Network(Document):
    """What is the same for all cards of the operator's network."""

    calendar: CalendarFact
    products: tuple[ProductFact, ...]


class OnAir(Document):
    """When a card's newest change was first sent on one multiplex, and when its EMM last was.

    `last_sent_at` is null when it was not sent since the daemon's start.
    """

    multiplex: str
    connected: bool
    first_sent_at: str | None = None
    last_sent_at: str | None


class CardAnswer(Document):
    """`GET /v1/cards/{number}`."""

    now: float
    card: CardFact
    network: Network
    on_air: tuple[OnAir, ...]


class Me(Document):
    """`GET /v1/me`. `extract_key`: the Ed25519 public key by which extracts are checked."""

    name: str
    operator: str
    role: Role
    node: str
    now: float
    extract_key: Digest


class ChallengeAnswer(Document):
    """`POST /v1/cards/{number}/challenge`."""

    challenge: Challenge


class Proof(Document):
    """What the card answered: body of `POST /v1/cards/{number}/proof`."""

    challenge: Challenge
    proof: ProofHex


class ProofAnswer(Document):
    """Whether the card is the card of its number."""

    genuine: bool


class EmmAnswer(Document):
    """`POST /v1/cards/{number}/emm`: the sections of the card's current EMM, part 0 first."""

    period: int
    revision: int
    sections: tuple[Hex, ...]


class ExtractRequest(Document):
    """Body of `POST /v1/extract`; null: all cards of the operator."""

    cards: Annotated[tuple[Number, ...], Field(max_length=CARDS_NAMED_MAX)] | None = None


class PreparedChallenge(Document):
    """A challenge with the SHA-256 of the card's answer to it."""

    challenge: Challenge
    digest: Digest


class ExtractCard(Document):
    """A card in an extract: the ledger's facts, the EMM current when it was made, and prepared challenges."""

    card: CardFact
    emm: EmmAnswer
    challenges: tuple[PreparedChallenge, ...]


class Extract(Document):
    """A part of the ledger for work without network. `expires_at`: not to be used from then on."""

    format: Literal["cad-extract-1"] = "cad-extract-1"
    serial: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    node: str
    operator: str
    person: str
    made_at: Time
    expires_at: Time
    network: Network
    cards: tuple[ExtractCard, ...]


class SignedExtract(Document):
    """`payload`: base64 of the deflated JSON of an Extract. `signature`: base64, over a prefix and the payload."""

    format: Literal["cad-signed-extract-1"] = "cad-signed-extract-1"
    payload: str
    signature: str


class Visit(Document):
    """One thing done with a card in the field; `seq` rises by one on each laptop.

    `held`: the version on the card before, `put`: the one written into it, each (period, revision).
    `extract`: serial of the extract used, null with network.
    """

    seq: Annotated[int, Field(ge=1, le=2**53)]
    at: Time
    card: Number
    act: Literal["verify", "refresh"]
    reader: Words
    verdict: Words
    passed: bool
    held: tuple[int, int] | None = None
    put: tuple[int, int] | None = None
    extract: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None


class Visits(Document):
    """Body of `POST /v1/visits`. `laptop`: a name that the laptop gave itself once, by chance."""

    laptop: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    visits: Annotated[tuple[Visit, ...], Field(min_length=1, max_length=VISITS_MAX)]


class VisitAnswer(Document):
    """`known`: it was sent before, and nothing was recorded twice. `conflict`: what the ledger says otherwise now."""

    seq: int
    status: Literal["recorded", "known"]
    conflict: str | None


class VisitsAnswer(Document):
    """One answer for each visit, in order."""

    visits: tuple[VisitAnswer, ...]
