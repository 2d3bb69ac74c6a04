"""TLS as the environment asks for it: what goes into the settings of the daemons.

Between two machines all traffic is TLS 1.3 anyway, with a key made of the cluster's. These
variables (Ray's names work, too) demand it on one machine as well, and name certificates to use.
"""

from __future__ import annotations

import os

VARIABLE = "SKATE_USE_TLS"
_FILES = (("tls_cert", "TLS_SERVER_CERT"), ("tls_key", "TLS_SERVER_KEY"), ("tls_ca", "TLS_CA_CERT"))


def is_on() -> bool:
    """Do SKATE_USE_TLS or RAY_USE_TLS ask for it? ValueError: a value that is no answer."""
    for name in (VARIABLE, "RAY_USE_TLS"):
        value = os.environ.get(name, "").lower()
        if value in ("1", "true"):
            return True
        if value not in ("", "0", "false"):
            raise ValueError(f"the variable {name} must be 1 or 0, it is {value!r}")
    return False


def settings() -> list[tuple[str, str]]:
    """The settings of a daemon. ValueError: some of the three files are named, and not all."""
    if not is_on():
        return []
    found = []
    for key, name in _FILES:
        path = os.environ.get(f"SKATE_{name}") or os.environ.get(f"RAY_{name}")
        if path:
            found.append((key, os.path.abspath(path)))
    if found and len(found) < len(_FILES):
        names = ", ".join(f"RAY_{name}" for _, name in _FILES)
        raise ValueError(f"TLS with certificates needs all of {names}; without any of them it uses "
                         "a key made of the cluster's")  # fmt: skip
    return [("tls", "1"), *found]
