"""Which runtime the compat tests run on: `SKATE_COMPAT_TARGET=skate` (default) or `ray`.

The same files must pass on both; real Ray 2.60.0 is the reference for what a program may expect.
Tests say `from compat_target import ray` and use nothing else of either package.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

TARGET = os.environ.get("SKATE_COMPAT_TARGET", "skate")

if TARGET == "ray":
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    import ray.exceptions as exceptions

    _TEMP_DIR = tempfile.mkdtemp(prefix="compat-ray-")
elif TARGET == "skate":
    import skate as ray
    import skate.exceptions as exceptions
else:
    raise RuntimeError(f"SKATE_COMPAT_TARGET is {TARGET!r}; it must be 'skate' or 'ray'")

ON_RAY = TARGET == "ray"
CPUS = 2
# Ray starts processes slowly; a deadline that says "promptly" is this many times longer there.
PATIENCE = 6 if ON_RAY else 1


def start(**options: Any) -> Any:
    """`ray.init` of a cluster of its own, alike on both targets."""
    if ON_RAY:
        options.setdefault("address", "local")
        options.setdefault("include_dashboard", False)
        options.setdefault("_temp_dir", _TEMP_DIR)
    options.setdefault("num_cpus", CPUS)
    options.setdefault("resources", {"gold": 4})
    return ray.init(**options)


__all__ = ["CPUS", "ON_RAY", "PATIENCE", "TARGET", "exceptions", "ray", "start"]
