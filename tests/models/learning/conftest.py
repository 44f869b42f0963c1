from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.learning.nights import tiny_model


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models"))
