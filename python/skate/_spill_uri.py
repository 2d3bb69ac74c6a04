"""URIs that objects may be spilled to: what fsspec must know of them, and whether it works.

fsspec and what it brings (threads, too) is not imported here but in a process of its own.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*(::[a-z][a-z0-9+.-]*)*://")
_TRY_S = 60
_READ_ONLY = frozenset(("http", "https", "data", "zip", "tar", "git", "github", "libarchive"))


def hidden(text: str) -> str:
    """A text with URIs in it, without the passwords that they may hold."""
    return re.sub(r"(://)[^/@\s]*@", r"\1***@", text)


def check(uri: str, name: str) -> None:
    """ValueError for what is no URI that can be written to, ModuleNotFoundError when fsspec, or the
    package that it needs for this protocol, is missing. name: the setting that holds it."""
    found = _SCHEME.match(uri)
    if not found or any(c.isspace() or ord(c) < 32 for c in uri):
        raise ValueError(f"{name}: {hidden(uri)!r} is no URI like s3://bucket/path")
    protocol = found.group()[:-3].split("::")[0]
    if protocol in _READ_ONLY:
        raise ValueError(f"{name}: {protocol}:// can only be read, objects cannot be spilled there")
    try:
        from fsspec.registry import known_implementations, registry
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "fsspec":
            raise
        raise ModuleNotFoundError(
            f"{name}: to spill objects to {protocol}:// needs the package fsspec: pip install "
            "fsspec, and what it names for the protocol (s3fs for s3://)",
            name="fsspec",
        ) from None
    if protocol in registry:  # the program's own
        return
    known: dict[str, Any] = known_implementations.get(protocol) or {}
    if not known:
        raise ValueError(f"{name}: fsspec knows no protocol {protocol}://")
    _need(known, protocol, name)


def _need(known: dict[str, Any], protocol: str, name: str) -> None:
    """The package of a protocol must be there; those in fsspec itself are tried in full."""
    from importlib import import_module
    from importlib.util import find_spec

    module = str(known["class"]).rpartition(".")[0]
    package = module.partition(".")[0]
    try:
        if package == "fsspec":
            import_module(module)
            return
        if find_spec(package) is not None:
            return
        missing = package
    except ImportError as error:
        missing = error.name or str(error)
    hint = known.get("err") or ""
    raise ModuleNotFoundError(
        f"{name}: to spill objects to {protocol}:// needs the package {missing}: pip install "
        f"{missing}" + (f" ({hint})" if hint else ""),
        name=missing,
    )


def try_out(uris: list[str], options: str, name: str) -> None:
    """Write, read and remove a small file at each, in a process of its own. OSError (of which
    PermissionError, ConnectionError) with the reason. options: JSON, for fsspec."""
    if all(uri.startswith("memory://") for uri in uris):
        return
    import json
    import subprocess
    import sys

    from skate import _spill_remote

    given = {"path": sys.path, "uris": uris, "options": json.loads(options or "{}")}
    boot = (
        "import json, sys; given = json.load(sys.stdin); sys.path[:] = given['path']; "
        "from skate._spill_remote import try_out; try_out(given)"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-E", "-s", "-c", boot], input=json.dumps(given),
            capture_output=True, text=True, timeout=_TRY_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        where = hidden(", ".join(uris))
        raise TimeoutError(f"{name}: {where} did not answer within {_TRY_S} s") from None
    kind, _, text = done.stdout.partition(" ")
    if kind == str(_spill_remote.OK):
        return
    text = f"{name}: cannot spill objects to {text or hidden(done.stderr.strip()[-500:])}"
    if kind == str(_spill_remote.REFUSED):
        raise PermissionError(text)
    if kind == str(_spill_remote.TRANSIENT):
        raise ConnectionError(text)
    raise OSError(text)
