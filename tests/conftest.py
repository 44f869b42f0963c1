"""What every test may ask for that not every machine has: the embedded model's file and a Chromium.

A test that asks for one is marked `embedded` or `browser` by itself and skips by name where it is missing. With
ENCORE_REQUIRE_ALL=1 such a skip is a failure. A test marked `oracle` skips by name without TRL, which the README's
test command doesn't install; with ENCORE_REQUIRE_ORACLE=1 that is a failure.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

_ROOT = Path(__file__).resolve().parent.parent
_MODEL_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_REQUIRED_BY = {"embedded": "ENCORE_REQUIRE_ALL", "browser": "ENCORE_REQUIRE_ALL", "oracle": "ENCORE_REQUIRE_ORACLE"}
_MARK_OF_FIXTURE = {"embedded_model": "embedded", "embedded_cache": "embedded", "chromium": "browser"}

# A shared two-core machine stalls now and then: no deadline. The same examples in every run: a red test stays red.
hypothesis.settings.register_profile("encore", deadline=None, derandomize=True)
hypothesis.settings.load_profile("encore")


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """The embedded model's GGUF file: ENCORE_TEST_MODEL, or what `encore` keeps in data/models."""
    given = os.environ.get("ENCORE_TEST_MODEL")
    path = Path(given) if given else _ROOT / "data" / "models" / _MODEL_NAME
    if not path.is_file():
        pytest.skip("embedded model not present")
    return path


@pytest.fixture(scope="session")
def embedded_cache(embedded_model: Path, pytestconfig: pytest.Config) -> Path:
    """A model cache laid out as data/models that holds the embedded model; its converted tokenizer is made once."""
    converter = (_ROOT / "models" / "convert_tokenizer.py").read_bytes()
    folder = pytestconfig.cache.mkdir(f"models-{hashlib.sha256(converter).hexdigest()[:12]}")
    link = folder / _MODEL_NAME
    if not link.exists() or not link.samefile(embedded_model):
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(embedded_model.resolve())
        except OSError:  # Windows without developer mode
            shutil.copyfile(embedded_model, link)
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The executable of a Chromium that is installed on this machine."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium")
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in _MARK_OF_FIXTURE:
                item.add_marker(_MARK_OF_FIXTURE[fixture])


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport, variable: str) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid} skipped, which {variable}=1 forbids: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        for mark, variable in _REQUIRED_BY.items():
            if item.get_closest_marker(mark) and os.environ.get(variable) == "1":
                _refuse_skip(report, variable)
                break
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and os.environ.get("ENCORE_REQUIRE_ALL") == "1":  # a whole module, by importorskip for example
        _refuse_skip(report, "ENCORE_REQUIRE_ALL")
    return report
