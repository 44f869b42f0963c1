"""The script of the README's pictures can be started: it follows what it imports of the demo."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def test_help_of_the_pictures_script_tells_its_option_and_default() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.screenshots", "--help"], cwd=_ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "--night" in done.stdout and "default" in done.stdout
