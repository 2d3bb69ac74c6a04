"""Folders of sessions whose processes were all killed at once: removed when a new session starts.

However a session ends, one of its processes removes its folder. Only a power cut or a kill -9 of
all of them leaves it, with its logs. Nothing of the network or of another user is touched.
"""

from __future__ import annotations

import os
import socket
import time

from skate import _node

QUIET_S = 60.0  # a younger folder may belong to a session that starts just now
MOST = 100  # folders looked at by one start


def sweep(base: str) -> list[str]:
    """Remove the folders of dead sessions in `base`; their paths."""
    removed = []
    try:
        with os.scandir(base) as entries:
            found = [e.path for e in entries if e.name.startswith("session_") and _is_old(e)]
    except OSError:
        return []
    for path in sorted(found)[:MOST]:
        if not _serves(os.path.join(path, "raylet.sock")) and not _maker_lives(path):
            _node.remove_tree(path)
            removed.append(path)
    return removed


def _is_old(entry: os.DirEntry[str]) -> bool:
    try:
        state = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    mine = entry.is_dir(follow_symlinks=False) and state.st_uid == os.getuid()
    return mine and time.time() - state.st_mtime > QUIET_S


def _serves(path: str) -> bool:
    """Does a raylet listen there? In doubt, yes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _maker_lives(path: str) -> bool:
    """Does the process live that the folder's name ends with?"""
    last = path.rpartition("_")[2]
    return last.isdigit() and os.path.exists(f"/proc/{last}")
