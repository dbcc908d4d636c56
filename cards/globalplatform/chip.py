"""A whole chip in software: card manager and conditional-access application behind one set of contacts.

It is a `cards.vpcd.CardOs`. Its two memories lie in one directory, which holds keys: treat it as secret.
"""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from cards import atr
from cards.apdu import SHORT_DATA_MAX, SHORT_LE_MAX, CommandApdu, ResponseApdu
from cards.application import CardApplication
from cards.errors import ApduError, StorageError
from cards.globalplatform.card_manager import CardManager, ManagerPolicy
from cards.globalplatform.card_state import CardState
from cards.globalplatform.commands import INS_SELECT, CardLifeCycle
from cards.globalplatform.data_groups import PersonalData
from cards.globalplatform.dialogue import CLA_CHAINED, INS_GET_RESPONSE
from cards.globalplatform.manager_file import ManagerFile
from cards.globalplatform.scp03.keys import StaticKeys
from cards.globalplatform.status_word import GpStatusWord
from cards.memory.contents import CardMemory
from cards.memory.state_file import StateFile
from cards.status_word import is_more_data

CHAIN_MAX: Final = 4096
_SELECT_BY_NAME: Final = (0x00, INS_SELECT, 0x04)
_MANAGER_FILE: Final = "manager.json"
_APPLICATION_FILE: Final = "application.json"


class Chip:
    """A card from stock to its end. Made by `create` or `open`; threads may share it."""

    def __init__(self, directory: Path, memory: ManagerFile, policy: ManagerPolicy) -> None:
        self._directory = directory
        self._manager_file = memory
        self._manager = CardManager(memory, policy)
        self._atr = atr.build(policy.application_aid)
        self._lock = threading.Lock()
        self._application: tuple[PersonalData, StateFile, CardApplication] | None = None
        self._application_selected = False
        self._chain: CommandApdu | None = None
        self._rest = b""
        self._forget_if_terminated()

    @classmethod
    def create(cls, directory: Path, serial: bytes, initial: StaticKeys, policy: ManagerPolicy) -> Self:
        """A new chip as it leaves the factory. Raises StorageError, also when there is a chip already."""
        state = CardState.stock(serial, initial)
        memory = ManagerFile(directory / _MANAGER_FILE)
        try:
            if memory.read() is not None:
                raise StorageError(f"there is a chip in {directory} already", "choose another directory")
            memory.write(state.encode())
            return cls(directory, memory, policy)
        except BaseException:
            memory.close()
            raise

    @classmethod
    def open(cls, directory: Path, policy: ManagerPolicy) -> Self:
        """The chip in a directory. Raises StorageError."""
        memory = ManagerFile(directory / _MANAGER_FILE)
        try:
            return cls(directory, memory, policy)
        except BaseException:
            memory.close()
            raise

    def __repr__(self) -> str:
        return f"<Chip {self._manager.state.life_cycle.name}>"

    @property
    def atr(self) -> bytes:
        """The answer to reset."""
        return self._atr

    @property
    def state(self) -> CardState:
        """What the card manager remembers."""
        return self._manager.state

    def reset(self) -> None:
        """Power on, off or reset: the card manager is selected, and everything volatile forgotten."""
        with self._lock:
            self._deselect()
            self._manager.reset()

    def process(self, command: bytes) -> bytes:
        """Answer one command APDU. Raises nothing, whatever `command` holds."""
        with self._lock:
            return self._process(command)

    def close(self) -> None:
        """Let go of the memories; the card cannot change anything afterwards."""
        with self._lock:
            self._close_application()
            self._manager_file.close()

    def _process(self, raw: bytes) -> bytes:
        try:
            command = CommandApdu.decode(raw)
        except ApduError:
            self._chain, self._rest = None, b""
            return ResponseApdu(GpStatusWord.WRONG_LENGTH).encode()
        if (command.cla, command.ins, command.p1) == _SELECT_BY_NAME:
            self._chain, self._rest = None, b""
            return self._select(command, raw)
        if self._application_selected and self._application is not None:
            return self._application[2].process(raw)
        rest, self._rest = self._rest, b""
        if (command.cla, command.ins) == (0x00, INS_GET_RESPONSE):
            if not rest or command.le is None:
                return ResponseApdu(GpStatusWord.CONDITIONS_NOT_SATISFIED).encode()
            return self._give(rest, GpStatusWord.OK, command.le).encode()
        return self._manage(command).encode()

    def _select(self, command: CommandApdu, raw: bytes) -> bytes:
        answer = self._manager.select(command.data)
        if answer is not None:
            self._deselect()
            return self._give(answer.data, answer.sw, command.le or 0).encode()
        if command.data != self._manager.application_aid or not self._manager.state.application_usable:
            return ResponseApdu(GpStatusWord.NOT_FOUND).encode()
        try:
            application = self._open_application()
        except StorageError:
            return ResponseApdu(GpStatusWord.MEMORY_FAILURE).encode()
        response = application.process(raw)
        sw = int.from_bytes(response[-2:], "big")
        if sw == GpStatusWord.OK or is_more_data(sw):
            self._manager.reset()
            self._application_selected = True
        return response

    def _manage(self, command: CommandApdu) -> ResponseApdu:
        """ISO/IEC 7816-4 clause 5.3.3: the parts of a chain become one command; another command breaks it."""
        chain, self._chain = self._chain, None
        whole = replace(command, cla=command.cla & ~CLA_CHAINED)
        if chain is not None:
            same = (chain.cla, chain.ins, chain.p1, chain.p2) == (whole.cla, whole.ins, whole.p1, whole.p2)
            if not same:
                self._manager.reset()
                return ResponseApdu(GpStatusWord.CHAIN_BROKEN)
            data = chain.data + whole.data
            whole = replace(whole, data=data, extended=len(data) > SHORT_DATA_MAX)
        if len(whole.data) > CHAIN_MAX:
            self._manager.reset()
            return ResponseApdu(GpStatusWord.WRONG_LENGTH)
        if command.cla & CLA_CHAINED:
            self._chain = whole
            return ResponseApdu(GpStatusWord.OK)
        answer = self._manager.answer(whole)
        self._forget_if_terminated()
        return self._give(answer.data, answer.sw, command.le or 0)

    def _give(self, data: bytes, sw: int, room: int) -> ResponseApdu:
        """ISO/IEC 7816-4 clause 5.3.4: what does not fit Le waits for GET RESPONSE."""
        if len(data) <= room:
            return ResponseApdu(sw, data)
        self._rest = data[room:]
        waiting = len(self._rest) if len(self._rest) < SHORT_LE_MAX else 0
        return ResponseApdu(0x6100 | waiting, data[:room])

    def _open_application(self) -> CardApplication:
        """The application with the newest keys of the card manager; its memory is made when it is selected first."""
        personal = self._manager.state.personal
        if personal is None or personal.identity is None:
            raise StorageError("the card is not personalised")
        if self._application is not None and self._application[0] == personal:
            return self._application[2]
        self._close_application()
        path = self._directory / _APPLICATION_FILE
        keys = personal.card_keys(personal.versions[-1])
        fresh = CardMemory(personal.identity.address, keys)
        storage = StateFile.open(path) if path.exists() else StateFile.create(path, fresh)
        try:
            held = storage.load()
            if held.address != fresh.address:
                raise StorageError("the application's memory is that of another card")
            if held.keys != keys:
                storage.store(replace(held, keys=keys))
            application = CardApplication(storage, personal.identity.aid)
        except BaseException:
            storage.close()
            raise
        self._application = personal, storage, application
        return application

    def _close_application(self) -> None:
        self._application_selected = False
        if self._application is not None:
            self._application[1].close()
            self._application = None

    def _deselect(self) -> None:
        self._application_selected = False
        self._chain, self._rest = None, b""
        if self._application is not None:
            self._application[2].reset()

    def _forget_if_terminated(self) -> None:
        """A terminated card holds no keys, also not in the application's memory."""
        if self._manager.state.life_cycle is CardLifeCycle.TERMINATED:
            self._close_application()
            for left in self._directory.glob(f"*{_APPLICATION_FILE}*"):
                left.unlink()
