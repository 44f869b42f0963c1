"""The tiny model that the tests of the engine serve."""

from __future__ import annotations

import pytest

from models.spec import ModelSpec
from tests.models.tiny_gguf import write_tiny_gguf


@pytest.fixture(scope="session")
def tiny_spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    path = write_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")
    return ModelSpec("tiny", path, "0" * 64, "F32", "a test", "none")
