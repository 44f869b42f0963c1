"""What every test may ask for that not every machine has: the embedded model's file and a Chromium.

A test that asks for one is marked `embedded` or `browser` by itself and skips by name where it is missing. With
ENCORE_REQUIRE_ALL=1 such a skip is a failure.
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


def _all_required() -> bool:
    return os.environ.get("ENCORE_REQUIRE_ALL") == "1"


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid} skipped, which ENCORE_REQUIRE_ALL=1 forbids: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    marked = any(item.get_closest_marker(name) for name in set(_MARK_OF_FIXTURE.values()))
    if report.skipped and marked and not hasattr(report, "wasxfail") and _all_required():
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and _all_required():  # a whole module skipped, by importorskip for example
        _refuse_skip(report)
    return report
