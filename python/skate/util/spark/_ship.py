"""ship(): this program's own Skate for executors whose Python has none.

Three archives go with the Spark application, one for each package: `skate`, with its compiled
modules and daemons, and the two that it needs. Spark unpacks each into the folder of the
application's files on each executor, under the name of the package, and that folder is on the path
of Spark's Python workers; so `import skate` finds it there, before one that is installed. Executors
that come later are given the same.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tarfile
import tempfile
from typing import Any

from skate.util.spark import _connect, _slots

PACKAGES = ("skate", "cloudpickle", "click")
_LEFT_OUT = ("__pycache__", "include")


def ship(spark: Any = None) -> None:
    """Send this program's Skate to the executors of a session, for its nodes and its UDFs.

    spark: the SparkSession, classic or of Connect; None: the active one. Call it before
    setup_ray_cluster(); a second call does nothing, and so does one in Spark's local mode, where
    tasks use the driver's Python. The executors need a Python of the driver's version, on machines
    of its kind. RuntimeError: no Spark session, or a package here is no plain folder.
    """
    context = _slots.active_context() if spark is None else _connect.place(spark)
    context = spark.sparkContext if context is None else context
    if _slots.is_local(context):
        return
    if isinstance(context, _connect.Place):
        if not getattr(context.session, "_skate_shipped", False):
            with tempfile.TemporaryDirectory(prefix="skate-ship-") as folder:
                context.session.addArtifacts(*archives(folder), archive=True)
            context.session._skate_shipped = True
        return
    folder = str(context._temp_dir)  # of the application: Spark removes it with itself
    known = [str(path) for path in context.listArchives]
    for archive in archives(folder):
        if not any(path.endswith("/" + os.path.basename(archive)) for path in known):
            context.addArchive(archive)


def archives(folder: str) -> list[str]:
    """Pack what is not packed there yet; for each package `<file>#<name in the executors' folder>`.

    RuntimeError: a package is no plain folder on this machine.
    """
    return [f"{_pack(folder, name)}#{name}" for name in PACKAGES]


def _pack(folder: str, name: str) -> str:
    from skate import _core

    target = os.path.join(folder, f"{name}-for-{_core.version}.tar.gz")
    if os.path.exists(target):
        return target
    beside = target + ".part"
    source = _folder_of(name)
    with tarfile.open(beside, "w:gz", compresslevel=1) as out:
        for entry in sorted(os.listdir(source)):
            out.add(os.path.join(source, entry), entry, filter=_plain)
    os.replace(beside, target)
    return target


def _folder_of(name: str) -> str:
    loaded = sys.modules.get(name)
    spec = getattr(loaded, "__spec__", None) or importlib.util.find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if len(places) != 1 or not os.path.isdir(places[0]):
        raise RuntimeError(
            f"the package {name!r} of this Python is no plain folder, so it cannot be sent to the "
            "executors: install it with pip, here or there"
        )
    return str(places[0])


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Nothing of this machine's users, and no by-products."""
    if os.path.basename(entry.name) in _LEFT_OUT:
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
