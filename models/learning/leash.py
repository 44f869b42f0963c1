"""`python -m models.learning.leash MODULE ARGUMENT ...`: run a module that ends when the process that started it does.

The starter holds the other end of this process's standard input. A starter that was killed can't end its children, but
the kernel closes what it held: then this process and its own end at once, and what they left is taken up again.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading

ORPHANED = 75  # the exit code where a process group can't be killed


def _follow() -> None:
    while os.read(0, 65536):
        pass
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():  # a group of its own: its children die with it
        os.killpg(0, signal.SIGKILL)
    os._exit(ORPHANED)


def main(arguments: list[str]) -> None:
    """Run a module as `python -m` would, held by standard input."""
    module = arguments[0]
    sys.argv = arguments
    threading.Thread(target=_follow, daemon=True, name="leash").start()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
