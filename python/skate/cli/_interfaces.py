"""The addresses of this machine where no route leads outside: a closed network of a cluster."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct

_GET_ADDRESS = 0x8915  # SIOCGIFADDR


def addresses() -> list[str]:
    """The first IPv4 address of each network device that has one, but for loopback."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            try:
                asked = struct.pack("256s", name.encode()[:15])
                answer = fcntl.ioctl(sock.fileno(), _GET_ADDRESS, asked)
            except OSError:  # it has none
                continue
            ip = socket.inet_ntoa(answer[20:24])
            if not ipaddress.ip_address(ip).is_loopback:
                found.append(ip)
    return found


def only_one() -> str | None:
    """The address, when there is a single one: then there is nothing to choose."""
    found = addresses()
    return found[0] if len(found) == 1 else None
