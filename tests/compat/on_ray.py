"""Runs a program written for `import skate` on the real Ray: `python on_ray.py FILE [ARG...]`.

For checking that an example or a test means the same on both: it needs an environment with Ray
2.60.0 (`tools/setup.sh bench` makes one in build/rayenv).
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray  # noqa: E402

_init = ray.init


def _init_alone(*args: object, **kwargs: object) -> object:
    """`ray.init` that never meets another cluster of this machine and leaves its files together."""
    if not args:
        kwargs.setdefault("address", "local")
    kwargs.setdefault("include_dashboard", False)
    if "_temp_dir" not in kwargs:
        kwargs["_temp_dir"] = os.environ.get("ON_RAY_TMPDIR") or tempfile.mkdtemp(prefix="onray")
    return _init(*args, **kwargs)


if __name__ == "__main__":
    ray.init = _init_alone
    sys.modules["skate"] = ray
    sys.argv = sys.argv[1:]
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    runpy.run_path(sys.argv[0], run_name="__main__")
