"""Removal of files whatever happens, and the record by which programs of a machine find a node.

Whoever starts a node or a cluster may be killed with signal 9, and then cannot clean up. So a
janitor waits beside: a shell that sleeps until its stdin ends, which is when its maker is gone, and
removes what it was told to. It costs one idle process of 1 MB.

init(address) finds a raylet of its machine by a small file in the folder of the cluster (`_node`
owns the format); `publish` writes that file, and gives it to a janitor.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess

# $1: for how many tenths of a second to look again after all is gone, when nobody said "now": those
# who also end may make files anew. $2: a file; its folder goes too when it is empty. The rest:
# folders with all that is in them, tried again for 10 s.
_SCRIPT = """
trap '' HUP INT TERM
looks=$1
group=0
while read -r word rest; do
    case $word in
    now) looks=0 ;;
    group) group=$rest ;;
    esac
done
exec 2>/dev/null
[ "$group" -gt 0 ] && kill -s KILL -- "-$group"
if [ -n "$2" ]; then rm -f -- "$2"; rmdir -- "$(dirname -- "$2")"; fi
shift 2
tries=100
while [ "$tries" -gt 0 ]; do
    left=no
    for folder; do
        rm -rf -- "$folder"
        [ -e "$folder" ] && left=yes
    done
    if [ "$left" = no ]; then
        [ "$looks" -gt 0 ] || exit 0
        looks=$((looks - 1))
    fi
    tries=$((tries - 1))
    sleep 0.1
done
"""


class Janitor:
    """Removes a file and folders once this process ends, or says so with clean()."""

    def __init__(self, file: str = "", *folders: str, patience_s: float = 0.0) -> None:
        looks = str(int(patience_s * 10))
        self._file, self._folders = file, folders
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "skate-janitor", looks, file, *folders],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON_WORKER")},
        )

    def takes_along(self, group: int) -> None:
        """Kill this group of processes, too, before anything is removed. 0: none any more."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(b"group %d\n" % group)
                self._process.stdin.flush()

    def dismiss(self) -> None:
        """Clean here, now. The janitor looks once more, and nobody waits for that."""
        with contextlib.suppress(OSError):
            if self._file:
                os.unlink(self._file)
                os.rmdir(os.path.dirname(self._file))
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
        self._tell_now()

    def clean(self) -> None:
        """Clean now; waits until it is done."""
        self._tell_now()
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell_now(self) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.write(b"now\n")
                self._process.stdin.close()
            except BrokenPipeError:
                pass  # somebody ended it

    def forget(self) -> None:
        """Remove the file, leave the folders, and be done."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._file)


def publish(
    address: str,
    socket_path: str,
    pid: int,
    run_dir: str,
    executor: int = 0,
    shared: bool = False,
) -> Janitor:
    """Record a raylet of this machine. `executor`: the process of the Spark executor it serves.
    `shared`: drivers there lend it their cores while they wait."""
    from skate import _node

    path = _node.record_node(_node.base_dir(), address, socket_path, pid, run_dir)
    if executor:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        record |= {"executor": executor, "shared": shared}
        _node.write_private(path, json.dumps(record))
    return Janitor(path, run_dir)
