"""Our KTO against TRL's: the same adapter, batch and z0 must give the same loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.train import our_loss, randomize, trl_loss, trl_trainer
from models.learning.torch_model import fresh_adapter
from tests.models.learning.tiny_torch import replies, tiny_base

pytestmark = pytest.mark.oracle


# What TRL and the libraries below it warn of isn't ours to fix.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [0, 1])
def test_loss_and_z0_equal_trls(tmp_path: Path, seed: int) -> None:
    pytest.importorskip("trl", reason="trl, which the oracle extra brings, is missing")
    examples = [(tokens, i % 3 != 0) for i, tokens in enumerate(replies(8, seed))]
    trainer = trl_trainer(tiny_base(), examples, str(tmp_path))
    randomize(trainer.model, spread=0.2)
    loss, kl = trl_loss(trainer)
    model = fresh_adapter(tiny_base(), rank=16, alpha=32, seed=0)
    randomize(model, spread=0.2)
    ours, z0 = our_loss(model, examples)
    assert ours == pytest.approx(loss, abs=1e-5)
    assert z0 == pytest.approx(kl, abs=1e-4)
    assert abs(loss - 0.5) > 1e-2  # an adapter that changes nothing would have .5 on both sides
