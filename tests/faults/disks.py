"""Disks for the log of the GCS: a small one that can be filled, and one that can be slow.

The small one is a tmpfs and outlives a GCS that is killed. The slow one is tests/e2e/bad_disk.py;
it ends with the GCS for which it was made, and its contents with it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

BAD_DISK = Path(__file__).resolve().parent.parent / "e2e" / "bad_disk.py"
PREFIX = "skf-disk-"


def sweep() -> None:
    """Take away the disks of runs that were killed."""
    for line in Path("/proc/mounts").read_text().splitlines():
        at = re.fullmatch(rf"/tmp/{PREFIX}([0-9]+)-\w+", line.split()[1])
        if at and not os.path.exists(f"/proc/{at[1]}"):
            subprocess.run(["umount", "-l", at[0]], capture_output=True, check=False)
            shutil.rmtree(at[0], ignore_errors=True)


class SmallDisk(AbstractContextManager["SmallDisk"]):
    """A file system of so many bytes. Needs root; OSError with the reason where it is refused."""

    def __init__(self, size: int) -> None:
        sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp"))
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(self.folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            self.folder.rmdir()
            raise OSError(f"no file system can be mounted here: {done.stderr.strip()}")

    def fill(self) -> None:
        """Not a byte is left."""
        with open(self.folder / "filler", "ab", buffering=0) as file:
            for piece in (1 << 20, 4096, 1):
                try:
                    while file.write(bytes(piece)):
                        pass
                except OSError:
                    continue

    def empty(self) -> None:
        """As much room as before fill()."""
        (self.folder / "filler").unlink()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Take it away."""
        subprocess.run(["umount", "-l", str(self.folder)], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


class SlowDisk:
    """What is around a GCS so that it has a disk of its own, slow when it is told to be."""

    def __init__(self, folder: Path) -> None:
        """folder: an empty one, for the mount and the switches."""
        self.mount, self.faults = folder / "disk", folder / "faults"
        self.mount.mkdir(parents=True)
        self.faults.mkdir()
        self.around = ["unshare", "-m", sys.executable, str(BAD_DISK), str(self.mount),
                       str(self.faults)]  # fmt: skip

    def slow(self, seconds: float) -> None:
        """Each read and write takes so long; 0: not any more."""
        path = self.faults / "slow"
        if seconds:
            path.write_text(str(seconds))
        elif path.exists():
            path.unlink()

    @property
    def met(self) -> bool:
        """Has something been slow?"""
        return (self.faults / "met.slow").exists()
