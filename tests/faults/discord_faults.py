"""What befalls requests to the stub: faults that a test scripts, and refusals as Discord words them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.faults.discord_payloads import Json


@dataclass(slots=True)
class Fault:
    """What befalls the next `times` requests that match, after the first `skip` of them.

    `when` sees the request's JSON. `status` answers instead of doing what was asked; `cut` breaks the connection
    without an answer, "before" or "after" doing it; `call` runs at that same moment; `seconds` makes it slow.
    """

    method: str = ""
    path: str = ""
    times: int = 1
    skip: int = 0
    when: Callable[[Json], bool] = lambda _: True
    status: int | None = None
    code: int = 0
    retry_after: float = 0.05
    everywhere: bool = False  # a global 429
    by_proxy: bool = False  # a 429 or 5xx page from the proxy in front of Discord, not JSON
    seconds: float = 0.0
    cut: str = ""
    call: Callable[[], None] | None = None
    hits: int = 0

    def matches(self, method: str, path: str, body: Json) -> bool:
        if self.hits >= self.times or (self.method and self.method != method) or not re.search(self.path, path):
            return False
        if not self.when(body):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.hits += 1
        return True


class Refused(Exception):
    def __init__(self, status: int, code: int, message: str) -> None:
        self.status, self.payload = status, {"code": code, "message": message}


def scripted_answer(fault: Fault, status: int) -> web.Response:
    """Return what Discord, or the proxy in front of it, says instead of doing what was asked."""
    if fault.by_proxy:
        return web.Response(status=status, text="<html>error</html>", content_type="text/html")
    if status == 429:
        scope = "global" if fault.everywhere else "user"
        headers = {"Via": "1.1 stub", "Retry-After": "1", "X-RateLimit-Scope": scope}
        limited = {"message": "You are being rate limited.", "retry_after": fault.retry_after}
        return json_response({**limited, "global": fault.everywhere}, status=429, headers=headers)
    return json_response({"code": fault.code, "message": "scripted"}, status=status, headers={"Via": "1.1 stub"})


def json_response(answer: Any, *, status: int, headers: dict[str, str]) -> web.Response:
    # discord.py reads JSON only where the type is exactly this, and aiohttp's json_response adds a charset.
    headers = {**headers, "Content-Type": "application/json"}
    return web.Response(body=json.dumps(answer).encode(), status=status, headers=headers)
