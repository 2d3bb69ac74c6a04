"""The key of a cluster as it comes to a machine: from a file, stdin, the environment, or made of a
password that both sides know. Never from an argument: everybody can read those.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "SKATE_CLUSTER_KEY"
FILE_VARIABLE = "SKATE_CLUSTER_KEY_FILE"
# What old programs write into their scripts: everybody knows it, so it keeps nobody out.
KNOWN_PASSWORDS = ("5241590000000000",)
SHORT_PASSWORD = 16
_DIGITS = 64


def _checked(text: str, where: str) -> str:
    """The key in a text. ValueError when there is none."""
    key = text.strip()
    if len(key) != _DIGITS or set(key.lower()) - set("0123456789abcdef"):
        raise ValueError(
            f"{where} holds no cluster key: that is {_DIGITS} hexadecimal digits, as in the file "
            "that `skate start --head` names"
        )
    return key


def from_file(path: str) -> str:
    """The key in a file; "-" is stdin. OSError or ValueError with the reason."""
    if path == "-":
        import sys

        return _checked(sys.stdin.readline(256), "stdin")
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return _checked(file.read(4096), path)
    except OSError as error:
        raise type(error)(f"cannot read the cluster's key: {error}") from None


def from_environment(environ: Mapping[str, str] = os.environ) -> str | None:
    """The key that SKATE_CLUSTER_KEY holds or SKATE_CLUSTER_KEY_FILE names; None: neither is set.
    OSError or ValueError when it cannot be read."""
    if environ.get(VARIABLE):
        return _checked(environ[VARIABLE], f"the variable {VARIABLE}")
    named = environ.get(FILE_VARIABLE)
    return from_file(named) if named else None


def from_password(password: str, port: int) -> str:
    """The key that a password makes for the cluster at this port (about 50 ms on purpose).

    A key derived so is worth what the password is worth: who has recorded the start of a
    connection can try passwords, each for the price of one scrypt.
    """
    import hashlib

    salt = b"skate cluster key, version 1, port %d" % port
    return hashlib.scrypt(
        password.encode(), salt=salt, n=1 << 14, r=8, p=1, maxmem=64 << 20, dklen=32
    ).hex()


def hide_argument(secret: str) -> None:
    """Overwrite a secret in this process's own arguments, which everybody can read in /proc.
    What cannot be done is left: no error."""
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
        first, last = int(fields[45]), int(fields[46])  # arg_start, arg_end
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(first)
            arguments = memory.read(last - first)
            at = arguments.find(secret.encode())
            while secret and at >= 0:
                memory.seek(first + at)
                memory.write(b"*" * len(secret.encode()))
                at = arguments.find(secret.encode(), at + 1)
    except (OSError, ValueError, IndexError):
        pass
