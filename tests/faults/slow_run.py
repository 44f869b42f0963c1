"""`python -m tests.faults.slow_run run` is `python -m bot run` with an echo engine that takes SECONDS_PER_TOKEN.

Changes two constants of the machine's speed and nothing of the product's: what is killed is the real composition.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import discord.state

from bot.__main__ import main
from models import loading
from models.engines.echo import EchoEngine


def _without_wait_for_servers(original: Any) -> Any:
    @functools.wraps(original)
    def init(self: Any, **options: Any) -> None:
        original(self, **{"guild_ready_timeout": 0.05, **options})

    return init


if __name__ == "__main__":
    loading.EchoEngine = functools.partial(EchoEngine, seconds_per_token=float(os.environ["SECONDS_PER_TOKEN"]))  # type: ignore[misc,assignment]
    discord.state.ConnectionState.__init__ = _without_wait_for_servers(discord.state.ConnectionState.__init__)  # type: ignore[method-assign]
    raise SystemExit(main())
