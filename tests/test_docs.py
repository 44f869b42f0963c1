"""The README and .env.example say what the code does: same settings, same defaults, real files."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from discord import app_commands

from bot.settings import Settings, load, variable
from cogs.moderators import Moderators
from models.spec import EMBEDDED_NOTE

_ROOT = Path(__file__).resolve().parent.parent
README = (_ROOT / "README.md").read_text("utf-8")
EXAMPLE = (_ROOT / ".env.example").read_text("utf-8")
_COMMANDS = (
    "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/encore demo",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/pytest",
)


def _shown(default: Any) -> str:
    if isinstance(default, frozenset):
        return ",".join(map(str, sorted(default)))
    return str(default).lower() if isinstance(default, bool) else str(default)


def _of_settings() -> list[tuple[str, str, str]]:
    return [(variable(field.name), _shown(field.default), field.metadata["help"]) for field in fields(Settings)]


def _of_readme() -> list[tuple[str, str, str]]:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`(.*)`|empty) \| (.*) \|$", README, re.MULTILINE)
    return [(name, default, help) for name, default, help in rows]


def _of_example() -> list[tuple[str, str, str]]:
    rows = re.findall(r'^# (.+)\n# ([A-Z_]+)="?(.*?)"?$', EXAMPLE, re.MULTILINE)
    return [(name, default, help) for help, name, default in rows]


def test_readme_lists_every_setting_with_its_default_and_help() -> None:
    assert _of_readme() == _of_settings()


def test_env_example_lists_every_setting_with_its_default_and_help() -> None:
    assert _of_example() == _of_settings()


def test_env_example_sets_nothing_as_it_is(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(EXAMPLE, "utf-8")
    assert load({}, env_file=tmp_path / ".env") == Settings()
    assert not [line for line in EXAMPLE.splitlines() if line and not line.startswith("#")]


def test_env_example_uncommented_gives_the_defaults(tmp_path: Path) -> None:
    uncommented = re.sub(r"^# (?=[A-Z_]+=)", "", EXAMPLE, flags=re.MULTILINE)
    (tmp_path / ".env").write_text(uncommented, "utf-8")
    assert len(re.findall(r"^[A-Z_]+=", uncommented, re.MULTILINE)) == len(fields(Settings))
    assert load({}, env_file=tmp_path / ".env") == Settings()


def test_readme_gives_the_two_commands_verbatim() -> None:
    blocks = re.findall(r"^```\n(.*?)\n```$", README, re.MULTILINE | re.DOTALL)
    assert [block for block in blocks if block.startswith("python3")] == list(_COMMANDS)


def test_readme_says_what_the_embedded_model_speaks_and_names_another() -> None:
    words = " ".join(README.split())
    model = re.search(r"MODEL=\S+\.gguf", EMBEDDED_NOTE)
    assert model and f"`{model[0]}`" in words
    assert "speaks English only" in EMBEDDED_NOTE
    assert "speaks English only" in words


def test_readme_describes_every_command_of_the_program() -> None:
    help = subprocess.run(
        [sys.executable, "-m", "bot", "--help"], capture_output=True, text=True, cwd=_ROOT, check=True, timeout=60
    ).stdout
    commands = re.findall(r"^    (\w+) {2,}", help, re.MULTILINE)
    assert commands == re.findall(r"^\| `encore (\w+)", README, re.MULTILINE)


def test_readme_describes_every_moderator_command() -> None:
    tree = [
        f"/{Moderators.__cog_group_name__} {leaf.qualified_name}"
        for command in Moderators.__cog_app_commands__
        for leaf in (command.commands if isinstance(command, app_commands.Group) else [command])
    ]
    shown = re.findall(r"`(/encore [a-z ]+)`((?:, `[/a-z ]+`)*) \|", README)
    names = set()
    for first, rest in shown:
        group = first.rpartition(" ")[0]
        names.add(first)
        names |= {name if name.startswith("/") else f"{group} {name}" for name in re.findall(r"`([^`]+)`", rest)}
    assert names == set(tree)


def test_files_that_the_readme_links_exist() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (_ROOT / link).exists()] == []


def test_files_in_the_readmes_tree_exist() -> None:
    tree = re.search(r"^```\n(bot/.*?)\n```$", README, re.MULTILINE | re.DOTALL)
    assert tree
    folder, missing = "", []
    for line in tree[1].splitlines():
        name = line.split()[0]
        folder = name if not line.startswith(" ") else folder
        path = folder if not line.startswith(" ") else folder + name
        if folder != "data/" and not (_ROOT / path).exists():
            missing.append(path)
    assert missing == []


@pytest.mark.parametrize("text", [README, EXAMPLE], ids=["README", "env example"])
def test_docs_name_no_path_of_one_machine(text: str) -> None:
    assert not re.search(r"(?<![\w.])/(?:home|root|tmp|work|Users)/", text)


def test_ci_runs_the_readmes_test_command_where_nothing_may_skip() -> None:
    script = (_ROOT / ".ci" / "run").read_text("utf-8")
    line = re.search(r"^tests=.*$", script, re.MULTILINE)
    assert line
    found = subprocess.run(
        ["bash", "-c", f'{line[0]}; printf %s "$tests"'], capture_output=True, text=True, cwd=_ROOT, check=True
    )
    assert found.stdout == _COMMANDS[1]
    assert script.index("ENCORE_REQUIRE_ALL=1") < script.index('eval "$tests"')
    assert script.index('eval "$tests"') < script.index("ENCORE_REQUIRE_ORACLE=1 .venv/bin/pytest -m oracle")
