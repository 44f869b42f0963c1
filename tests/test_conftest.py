"""ENCORE_REQUIRE_ALL=1 and ENCORE_REQUIRE_ORACLE=1 turn the skips that a machine may have into failures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SUITE = """
import pytest

def test_on_the_model(embedded_model):
    raise AssertionError("never reached")

@pytest.mark.browser
def test_in_a_browser():
    pytest.skip("no Chromium")

def test_on_another_system():
    pytest.skip("Windows only")

@pytest.mark.embedded
@pytest.mark.xfail(raises=ZeroDivisionError)
def test_known_failure():
    1 / 0
"""
_CONFIG = "[pytest]\nmarkers =\n  browser: b\n  embedded: e\n  oracle: o\naddopts = --strict-markers -ra\n"


def _run(folder: Path, tests: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text("utf-8"), "utf-8")
    (folder / "test_suite.py").write_text(tests, "utf-8")
    (folder / "pytest.ini").write_text(_CONFIG, "utf-8")
    given = {name: value for name, value in os.environ.items() if not name.startswith(("ENCORE_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            **given,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "ENCORE_TEST_MODEL": str(folder / "missing.gguf"),
            **environment,
        },
        timeout=60,
    )


def test_missing_model_and_browser_skip_by_name(tmp_path: Path) -> None:
    done = _run(tmp_path, _SUITE)
    assert done.returncode == 0, done.stdout
    assert "embedded model not present" in done.stdout
    assert "3 skipped, 1 xfailed" in done.stdout


def test_skips_fail_where_everything_is_required(tmp_path: Path) -> None:
    done = _run(tmp_path, _SUITE, ENCORE_REQUIRE_ALL="1")
    assert done.returncode == 1, done.stdout
    assert "test_on_the_model skipped, which ENCORE_REQUIRE_ALL=1 forbids" in done.stdout
    assert "1 failed, 1 skipped, 1 xfailed, 1 error" in done.stdout


_ORACLE = 'import pytest\n@pytest.mark.oracle\ndef test_against_it():\n    pytest.importorskip("no_such_oracle")\n'


@pytest.mark.parametrize("environment", [{}, {"ENCORE_REQUIRE_ALL": "1"}])
def test_an_oracle_may_be_missing_where_the_readmes_command_installs_none(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    done = _run(tmp_path, _ORACLE, **environment)
    assert done.returncode == 0, done.stdout
    assert "no_such_oracle" in done.stdout


def test_a_missing_oracle_fails_where_it_is_required(tmp_path: Path) -> None:
    done = _run(tmp_path, _ORACLE, ENCORE_REQUIRE_ORACLE="1")
    assert done.returncode == 1, done.stdout
    assert "test_against_it skipped, which ENCORE_REQUIRE_ORACLE=1 forbids" in done.stdout


@pytest.mark.parametrize(("environment", "status"), [({}, 5), ({"ENCORE_REQUIRE_ALL": "1"}, 2)])
def test_a_skipped_module_fails_where_everything_is_required(
    tmp_path: Path, environment: dict[str, str], status: int
) -> None:
    done = _run(tmp_path, 'import pytest\npytest.importorskip("no_such_package")\n', **environment)
    assert done.returncode == status, done.stdout
