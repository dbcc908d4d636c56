"""Who is at the other end of the control socket: named by the kernel, and never made up."""

import getpass
import os
import socket
from typing import Any

import pytest
from starlette.requests import Request

from cad.http import peer


def request(uid: int | None) -> Request:
    return Request({"type": "http", peer.UID: uid})


def test_a_user_is_named_by_name_and_number() -> None:
    assert peer.who(request(os.getuid())) == f"{getpass.getuser()} (uid {os.getuid()})"


@pytest.mark.parametrize(("uid", "said"), [(4_000_000_000, "uid 4000000000"), (None, "unknown")])
def test_what_is_not_known_is_not_made_up(uid: int | None, said: str) -> None:
    assert peer.who(request(uid)) == said
    assert peer.who(Request({"type": "http"})) == "unknown"


def test_only_a_unix_socket_knows_its_user() -> None:
    one, other = socket.socketpair()
    with one, other, socket.socket(socket.AF_INET) as tcp:
        found: list[Any] = [peer._uid(each) for each in (one, tcp, None)]
    assert found == [os.getuid(), None, None]
