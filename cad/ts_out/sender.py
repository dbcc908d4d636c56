"""The UDP socket that a transport stream leaves by: unicast or multicast, IPv4 or IPv6."""

import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import Any, Final

SEND_BUFFER_BYTES: Final = 262_144
_MREQN: Final = struct.Struct("@4s4si")  # struct ip_mreqn of ip(7)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a stream goes. `interface`: name or local address by which multicast leaves; None = as the routes say."""

    host: str
    port: int
    interface: str | None = None
    multicast_ttl: int = 16
    dscp: int = 0


def open_sender(to: Destination, resolved: tuple[Any, ...] | None = None) -> socket.socket:
    """Return a socket that sends there, connected and not blocking. Raises OSError.

    `resolved`: one answer of getaddrinfo; without it the name is looked up here.
    """
    family, kind, proto, _, address = resolved or socket.getaddrinfo(to.host, to.port, type=socket.SOCK_DGRAM)[0]
    sender = socket.socket(family, kind, proto)
    try:
        sender.setblocking(False)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if family == socket.AF_INET6:
            _set_up_v6(sender, to)
        else:
            _set_up_v4(sender, to)
        sender.connect(address)
    except BaseException:
        sender.close()
        raise
    return sender


def _set_up_v4(sender: socket.socket, to: Destination) -> None:
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, to.multicast_ttl)
    # RFC 2474, 3: the upper six bits of the former type of service.
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, to.dscp << 2)
    if to.interface is not None:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface_v4(to.interface))


def _set_up_v6(sender: socket.socket, to: Destination) -> None:
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, to.multicast_ttl)
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, to.dscp << 2)
    if to.interface is not None:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(to.interface))


def interface_v4(interface: str, group: str = "0.0.0.0") -> bytes:  # noqa: S104 - no address to listen on
    """Return the struct ip_mreqn that names an interface, and a group to join on it. Raises OSError: there is none."""
    address = socket.inet_aton(group)
    try:
        return _MREQN.pack(address, ipaddress.IPv4Address(interface).packed, 0)
    except ValueError:
        return _MREQN.pack(address, bytes(4), socket.if_nametoindex(interface))
