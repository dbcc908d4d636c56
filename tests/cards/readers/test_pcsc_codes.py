"""PC/SC's codes become errors that say what to do; against pyscard's own table of codes."""

import pytest

from cards import errors
from cards.readers import codes

DOING = "sending a command to the card"


@pytest.mark.parametrize("code", codes.TABLE)
def test_every_code_gives_its_error_with_code_and_advice(code, monkeypatch, tmp_path):
    monkeypatch.setenv("PCSCLITE_CSOCK_NAME", str(tmp_path / "absent"))
    error = codes.error_of(code, DOING, "reader 1", opening=True)
    assert type(error) is codes.TABLE[code][0]
    assert error.code == code
    assert f"0x{code:08X}" in str(error)
    assert error.advice
    assert error.message.startswith(DOING)


def test_signed_codes_are_the_same_as_unsigned_ones():
    assert isinstance(codes.error_of(0x8010_0069 - (1 << 32), DOING), errors.CardRemovedError)


def test_an_unknown_code_is_an_error_too():
    error = codes.error_of(0x8010_0FFF, DOING)
    assert type(error) is errors.PcscError
    assert "0x80100FFF" in str(error)


def test_the_codes_are_those_of_pyscard():
    from smartcard import scard

    names = {
        codes.CANCELLED: "SCARD_E_CANCELLED",
        codes.TIMEOUT: "SCARD_E_TIMEOUT",
        codes.UNKNOWN_READER: "SCARD_E_UNKNOWN_READER",
        codes.NO_READERS_AVAILABLE: "SCARD_E_NO_READERS_AVAILABLE",
        codes.NOT_TRANSACTED: "SCARD_E_NOT_TRANSACTED",
        codes.REMOVED_CARD: "SCARD_W_REMOVED_CARD",
        codes.NO_SERVICE: "SCARD_E_NO_SERVICE",
        codes.SECURITY_VIOLATION: "SCARD_W_SECURITY_VIOLATION",
        0x8010_000B: "SCARD_E_SHARING_VIOLATION",
        0x8010_000C: "SCARD_E_NO_SMARTCARD",
        0x8010_000F: "SCARD_E_PROTO_MISMATCH",
        0x8010_0066: "SCARD_W_UNRESPONSIVE_CARD",
    }
    assert {code: getattr(scard, name) & 0xFFFF_FFFF for code, name in names.items()} == {code: code for code in names}


def test_a_closed_connection_is_a_matter_of_permission_only_while_opening(tmp_path, monkeypatch):
    monkeypatch.setenv("PCSCLITE_CSOCK_NAME", str(tmp_path / "absent"))
    opening = codes.error_of(codes.SECURITY_VIOLATION, "connecting to PC/SC", opening=True)
    later = codes.error_of(codes.SECURITY_VIOLATION, "watching the readers")
    assert isinstance(opening, errors.PermissionDeniedError)
    assert isinstance(later, errors.ServiceError)


def test_why_pcscd_does_not_answer_is_told_apart(tmp_path, monkeypatch):
    socket = tmp_path / "pcscd.comm"
    monkeypatch.setenv("PCSCLITE_CSOCK_NAME", str(socket))
    monkeypatch.setattr(codes.shutil, "which", lambda name: "/usr/sbin/pcscd")
    assert "systemctl start" in codes.error_of(codes.NO_SERVICE, DOING).advice
    monkeypatch.setattr(codes.shutil, "which", lambda name: None)
    monkeypatch.setattr(codes, "DAEMON", tmp_path / "absent")
    assert "apt-get install" in codes.error_of(codes.NO_SERVICE, DOING).advice
    socket.touch()
    assert "systemctl restart" in codes.error_of(codes.NO_SERVICE, DOING).advice
    monkeypatch.setattr(codes.os, "access", lambda path, mode: False)
    assert isinstance(codes.error_of(codes.NO_SERVICE, DOING), errors.PermissionDeniedError)
