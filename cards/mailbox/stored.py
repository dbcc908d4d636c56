"""A mailbox as it stands in the file of a software card."""

from typing import Self

from pydantic import BaseModel, ConfigDict

from cards.mailbox.contents import Incomplete, Letter, Mailbox


class _Model(BaseModel):
    # What is written to one subscriber is not for an error message.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class _Letter(_Model):
    number: int
    content: str
    done: bool


class _Piece(_Model):
    part: int
    content: str


class _Incomplete(_Model):
    number: int
    last_part: int
    pieces: list[_Piece]


class StoredMailbox(_Model):
    """Contents in hexadecimal."""

    letters: list[_Letter] = []
    incomplete: list[_Incomplete] = []
    taken: list[int] = []
    floor: int = 0

    @classmethod
    def of(cls, mailbox: Mailbox) -> Self:
        """Spell a mailbox."""
        return cls(
            letters=[_Letter(number=one.number, content=one.content.hex(), done=one.done) for one in mailbox.letters],
            incomplete=[
                _Incomplete(
                    number=one.number,
                    last_part=one.last_part,
                    pieces=[_Piece(part=part, content=piece.hex()) for part, piece in one.pieces],
                )
                for one in mailbox.incomplete
            ],
            taken=list(mailbox.taken),
            floor=mailbox.floor,
        )

    def read(self) -> Mailbox:
        """Return the mailbox. Raises ValueError, `BuildError`."""
        return Mailbox(
            tuple(Letter(one.number, bytes.fromhex(one.content), one.done) for one in self.letters),
            tuple(
                Incomplete(
                    one.number,
                    one.last_part,
                    tuple((piece.part, bytes.fromhex(piece.content)) for piece in one.pieces),
                )
                for one in self.incomplete
            ),
            tuple(self.taken),
            self.floor,
        )
