"""The first lines of a worker in an interpreter of its own: see _env_exec.py."""

import os
import sys

_package = os.path.dirname(os.path.abspath(__file__))
if sys.path and os.path.abspath(sys.path[0]) == _package:
    del sys.path[0]  # its modules have the names of Python's own
_parent = os.path.dirname(_package)
if _parent not in sys.path:
    sys.path.append(_parent)

if __name__ == "__main__":
    from skate import _core, _worker

    if sys.argv[1] == "check":
        print("good")
    else:
        _core._child_setup(os.getppid())
        _worker.main(int(sys.argv[1]), True)
