"""The card against a model of it: whatever is said to it in whatever order, cut short, reset or without power."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from cards.application import DEFAULT_AID, CardApplication
from cards.session import CardSession
from cards.status_word import StatusWord
from emm.ecm import EcmHeader, EcmSealer, Parity
from emm.message import EmmHeader, EmmKind, Version
from emm.payload import CardState, EmmPayload, ProductKeys, RightsBlock, build_payload
from emm.traits import NO_TRAITS, Traits, said_by, trait_blocks
from tests.support import reference_formats as reference
from tests.support.cards import ADDRESS, KEYS, LADDER, MemoryStorage, blank_card, receiver

PRODUCTS = st.integers(1, 3)
TIMES = st.integers(0, 12)
EPOCHS = st.integers(0, 3)
KINDS = st.sampled_from(EmmKind)
HOME = receiver(1)
TRAITS = st.builds(
    Traits, st.sampled_from([None, HOME.number]), parental=st.sampled_from([0, 4, 18]), pin_reset=st.integers(0, 3)
)
PINS = st.sampled_from([b"0000", b"1111", b"2222"])
SELECT = bytes((0, 0xA4, 4, 0x0C, len(DEFAULT_AID))) + DEFAULT_AID


@st.composite
def blocks(draw: st.DrawFn) -> RightsBlock:
    start = draw(st.integers(0, 10))
    first_epoch = draw(EPOCHS)
    epochs = range(first_epoch, first_epoch + draw(st.integers(1, 2)))
    products = sorted(draw(st.sets(PRODUCTS, min_size=1, max_size=2)))  # two such blocks fit one EMM
    return RightsBlock(
        start,
        draw(st.integers(start + 1, 12)),
        first_epoch,
        tuple(
            ProductKeys(product, tuple(LADDER.product_key(product, epoch) for epoch in epochs)) for product in products
        ),
    )


def seal(header: EmmHeader, payload: EmmPayload, key: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    from emm.message import build_head

    plain = build_payload(header.kind, payload)
    head = build_head(header, len(plain))
    return head + AESSIV(key).encrypt(plain, [head])


class CardMachine(RuleBasedStateMachine):
    """The model: for each kind of EMM what is held, and the parts by number of what is being collected."""

    emms = Bundle("emms")

    def __init__(self):
        super().__init__()
        self.storage = MemoryStorage()
        self.card = blank_card(self.storage)
        self.held: dict[EmmKind, tuple[Version, list[EmmPayload]]] = {}
        self.last: tuple[EmmHeader, EmmPayload, bytes] | None = None
        self.parts: dict[EmmKind, tuple[Version, int, dict[int, EmmPayload]]] = {}
        self.pin, self.tries, self.mark, self.given = b"0000", 3, 0, False

    @initialize()
    def select(self):
        assert self.card.process(SELECT) == b"\x90\x00"

    @rule(
        target=emms,
        kind=KINDS,
        version=st.builds(Version, st.integers(0, 2), st.integers(0, 2)),
        last_part=st.integers(0, 2),
        suspended=st.booleans(),
        rights=st.lists(blocks(), max_size=2),
        traits=st.just(NO_TRAITS) | TRAITS,
        twice=st.sampled_from([False, False, False, True]),
    )
    def say(self, kind, version, last_part, suspended, rights, traits, twice):
        """The headend makes an EMM, all parts of it; what is said besides rights in the first, or wrongly in all."""
        unique = kind is EmmKind.UNIQUE
        state = CardState.SUSPENDED if suspended and unique else CardState.ACTIVE
        told = tuple(rights[:1] if traits.receiver else rights) if unique and not suspended else ()
        said = trait_blocks(traits, HOME.pair_key(ADDRESS)) if unique else ()
        payloads = [EmmPayload(state, (*told, *(said if not part or twice else ()))) for part in range(last_part + 1)]
        address = {EmmKind.UNIQUE: ADDRESS, EmmKind.GROUP: ADDRESS >> 8, EmmKind.GLOBAL: 0}[kind]
        headers = [EmmHeader(kind, address, 1, version, part, last_part) for part in range(last_part + 1)]
        return [
            (header, payload, seal(header, payload, KEYS.key(kind)))
            for header, payload in zip(headers, payloads, strict=True)
        ]

    @rule(emm=emms, part=st.integers(0, 2), forged=st.booleans(), worn_out=st.booleans())
    def hear(self, emm, part, forged, worn_out):
        """The card hears one part, perhaps forged, perhaps with a memory that fails."""
        self.last = emm[part % len(emm)]
        self._hear(*self.last, forged, worn_out)

    @precondition(lambda self: self.last is not None)
    @rule(forged=st.booleans())
    def hear_again(self, forged):
        """Receivers hear everything many times."""
        self._hear(*self.last, forged, worn_out=False)

    def _hear(self, header, payload, section, forged, worn_out):
        if forged:
            section = section[:-1] + bytes((section[-1] ^ 1,))
        self.storage.broken = worn_out
        word = self._send(0x30, section)[1]
        self.storage.broken = False
        assert word == self._expected(header, payload, forged, worn_out)

    def _expected(self, header, payload, forged, worn_out):
        kind, version = header.kind, header.version
        held = self.held.get(kind)
        if held and version <= held[0]:
            return StatusWord.ALREADY_HELD if version == held[0] else StatusWord.OLDER_VERSION
        collected = self.parts.get(kind)
        if collected and version < collected[0]:
            return StatusWord.OLDER_VERSION
        same = collected and collected[:2] == (version, header.last_part)
        if same and header.part in collected[2]:
            return StatusWord.ALREADY_HELD
        if forged:
            return StatusWord.NOT_AUTHENTIC
        if worn_out:
            return StatusWord.MEMORY_FAILURE
        parts = {**(collected[2] if same else {}), header.part: payload}
        said = [type(block) for each in parts.values() for block in each.blocks if not isinstance(block, RightsBlock)]
        if len({each.state for each in parts.values()}) > 1 or len(said) != len(set(said)):
            self.parts.pop(kind, None)
            return StatusWord.NOT_UNDERSTOOD
        if len(parts) <= header.last_part:
            self.parts[kind] = (version, header.last_part, parts)
            return StatusWord.PART_HELD
        self.parts.pop(kind, None)
        self.held[kind] = (version, [parts[number] for number in sorted(parts)])
        if (mark := self._traits().pin_reset) > self.mark:
            self.pin, self.tries, self.mark, self.given = b"0000", 3, mark, False
        return StatusWord.OK

    def _traits(self):
        content = self.held.get(EmmKind.UNIQUE, (None, []))[1]
        return said_by([block for part in content for block in part.blocks])

    @rule(pin=PINS, change=st.none() | PINS)
    def give_pin(self, pin, change):
        """The subscriber gives his PIN, right or wrong, or another one with it."""
        if self.tries:
            self.given = pin == self.pin
            self.tries = 3 if self.given else self.tries - 1
            self.pin = change if change and self.given else self.pin
            word = 0x9000 if self.given else 0x63C0 | self.tries if self.tries else 0x6983
        else:
            self.given, word = False, 0x6983
        data = pin + (change or b"")
        command = bytes((0, 0x24 if change else 0x20, 0, 0x81, len(data))) + data
        assert self.card.process(command) == word.to_bytes(2, "big")

    @rule()
    def ask_whether_the_pin_was_given(self):
        word = 0x9000 if self.given else 0x63C0 | self.tries if self.tries else 0x6983
        assert self.card.process(b"\x00\x20\x00\x81") == word.to_bytes(2, "big")

    @rule(products=st.sets(PRODUCTS, min_size=1), time=TIMES, epoch=EPOCHS)
    def watch(self, products, time, epoch):
        """A receiver asks for the control words of a service."""
        words = (b"%08d" % time,)
        header = EcmHeader(Parity.ODD, time, 9, epoch)
        section = EcmSealer(LADDER).seal(header, products, words, bytes(16))
        answer, status = self._opened(products, time, epoch, words[0])
        if answer and self._traits().receiver:
            answer = reference.sealed_words(HOME.pair_key(ADDRESS), answer[0], section[-24:-8], words)
        assert self._send(0x32, section) == (answer, status)

    def _opened(self, products, time, epoch, word):
        if EmmKind.UNIQUE not in self.held:
            return b"", StatusWord.NO_EMM_YET
        content = self.held[EmmKind.UNIQUE][1]
        if content[0].state is CardState.SUSPENDED:
            return b"", StatusWord.SUSPENDED
        rights = [
            block
            for part in content
            for block in part.rights
            if products & {each.product_id for each in block.products}
        ]
        now = [block for block in rights if block.start <= time < block.end]
        if any(epoch - block.first_epoch in range(len(block.products[0].keys)) for block in now):
            return b"\x10" + word, StatusWord.OK
        if now:
            return b"", StatusWord.NO_KEY_OF_EPOCH
        if any(time < block.start for block in rights):
            return b"", StatusWord.RIGHT_NOT_BEGUN
        return b"", StatusWord.RIGHT_ENDED if rights else StatusWord.NO_RIGHT

    @rule(noise=st.binary(max_size=40))
    def babble(self, noise):
        assert len(self.card.process(noise)) >= 2
        self._select_again()

    def _select_again(self):
        assert self.card.process(SELECT) == b"\x90\x00"
        self.given = False

    @rule(power=st.booleans())
    def reset(self, power):
        """A reset forgets nothing but the selection, a loss of power neither."""
        if power:
            self.card = CardApplication(self.storage)
        else:
            self.card.reset()
        assert self.card.process(b"\x80\xca\xdf\x20\x00") == b"\x69\x85"
        self._select_again()

    @invariant()
    def the_card_tells_what_the_model_holds(self):
        given = self.card.process(b"\x00\x20\x00\x81") == b"\x90\x00"
        info = CardSession(self.card.process).read_info()
        assert given == self.given
        self.given = False  # that session selected the application
        traits = self._traits()
        assert (info.receiver, info.access.parental) == (traits.receiver, traits.parental)
        assert (info.access.tries_left, info.access.pin_reset) == (self.tries, self.mark)
        for kind in EmmKind:
            held = self.held.get(kind)
            assert info.versions.held[kind] == (held[0] if held else None)
        parts = self.parts.get(EmmKind.UNIQUE)
        assert info.state.collecting == (parts[0] if parts else None)
        assert info.state.parts_held == (tuple(sorted(parts[2])) if parts else ())
        content = self.held.get(EmmKind.UNIQUE, (None, []))[1]
        assert [
            (right.product_id, right.start, right.end, right.first_epoch, right.key_count) for right in info.rights
        ] == [
            (product.product_id, block.start, block.end, block.first_epoch, len(product.keys))
            for part in content
            for block in part.rights
            for product in block.products
        ]

    def _send(self, instruction, section):
        command = bytes((0x80, instruction, section[0], 0, len(section) - 1)) + section[1:] + b"\x00"
        answer = self.card.process(command)
        return answer[:-2], StatusWord(int.from_bytes(answer[-2:], "big"))


CardMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestCardMachine = pytest.mark.slow(CardMachine.TestCase)


def _headers() -> st.SearchStrategy[bytes]:
    known = st.sampled_from([b"\x80\x30\x82\x00", b"\x80\x32\x80\x00", b"\x80\xca\xdf\x23", b"\x00\xa4\x04\x00"])
    return known | st.binary(min_size=4, max_size=4)


@given(st.lists(st.binary(max_size=30) | st.builds(bytes.__add__, _headers(), st.binary(max_size=300)), max_size=8))
def test_any_bytes_get_a_response_that_fits_and_change_nothing(commands):
    storage = MemoryStorage()
    card = blank_card(storage)
    before = storage.memory
    card.process(SELECT)
    for command in commands:
        answer = card.process(command)
        assert 2 <= len(answer) <= 65_538
    assert storage.memory == before
    assert storage.writes == 0


@given(st.integers(0, 255), st.binary(max_size=252))
def test_any_section_gets_a_status_word_of_the_table(table_id, rest):
    card = blank_card()
    card.process(SELECT)
    for instruction in (0x30, 0x32):
        data = rest or b"\x00"
        answer = card.process(bytes((0x80, instruction, table_id, 0, len(data))) + data)
        assert StatusWord(int.from_bytes(answer, "big")) is not StatusWord.OK
