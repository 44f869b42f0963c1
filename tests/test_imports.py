"""The import rules that import-linter can't say, read from the source: one place for each concern.

`[tool.importlinter]` in pyproject.toml holds the rules between packages, chains of imports included.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("bot", "cogs", "models")
# The Discord edge of the services; everything else in bot and models runs without Discord.
_DISCORD_EDGE = (
    "bot/attention.py",
    "bot/case_ui.py",
    "bot/checks.py",
    "bot/client.py",
    "bot/confirm.py",
    "bot/deleted_channels.py",
    "bot/error_handler.py",
    "bot/feedback_ui.py",
    "bot/gateway.py",
    "bot/history.py",
    "bot/member_roles.py",
    "bot/notices.py",
    "bot/reconcile.py",
    "bot/recovery.py",
    "bot/surface.py",
    "bot/ui.py",
    "bot/demo/*",
    "cogs/*",
)
_SQL_HOME = ("bot/store.py", "bot/store_*.py", "bot/database.py", "bot/backups.py", "bot/rows.py")
_PRINTS = (
    "bot/__main__.py", "bot/commands.py", "bot/learning_commands.py", "bot/privacy_commands.py", "bot/terminal.py",
)  # fmt: skip
# Statements as they are written here: a keyword in capitals and what must follow it.
_SQL = re.compile(
    r"\b(SELECT\s.+\sFROM\s|INSERT\s+(OR\s+\w+\s+)?INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s|PRAGMA\s+\w+|"
    r"(CREATE|DROP|ALTER)\s+(TABLE|INDEX|VIEW|TRIGGER)\s|BEGIN\s+IMMEDIATE)",
    re.DOTALL,
)


def _sources() -> list[str]:
    return sorted(
        path.relative_to(_ROOT).as_posix() for package in _PACKAGES for path in (_ROOT / package).rglob("*.py")
    )


def _tree(source: str) -> ast.Module:
    return ast.parse((_ROOT / source).read_text("utf-8"), source)


def _imports(tree: ast.AST) -> Iterator[str]:
    """Yield every imported module, wherever it is imported; `from a import b` is a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_in(module: str, packages: tuple[str, ...]) -> bool:
    return module.startswith(tuple(f"{package}." for package in packages)) or module in packages


def _strings(tree: ast.AST) -> Iterator[str]:
    """Yield string literals, docstrings aside."""
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def _matches(source: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(source, pattern) for pattern in patterns)


def _importers(*packages: str) -> set[str]:
    return {source for source in _sources() if any(_is_in(module, packages) for module in _imports(_tree(source)))}


def test_discord_is_imported_at_the_edge_alone() -> None:
    assert {source for source in _importers("discord") if not _matches(source, _DISCORD_EDGE)} == set()


def test_simcord_is_imported_by_the_demo_alone() -> None:
    assert {source for source in _importers("simcord") if not source.startswith("bot/demo/")} == set()


def test_transformers_is_imported_in_processes_of_their_own_alone() -> None:
    found = {source for source in _importers("transformers") if not source.startswith("models/learning/")}
    assert found <= {"models/convert_tokenizer.py", "models/safety_worker.py"}


def test_torch_is_imported_in_processes_of_their_own_alone() -> None:
    found = {source for source in _importers("torch", "peft") if not source.startswith("models/learning/")}
    assert found <= {"models/safety_worker.py"}
    assert set(_importers("models.safety_worker")) == set()


def test_sqlite_is_imported_by_the_store_alone() -> None:
    assert {source for source in _importers("sqlite3", "aiosqlite") if not _matches(source, _SQL_HOME)} == set()


def test_cogs_import_nothing_of_models_but_its_types() -> None:
    found = {
        (source, module)
        for source in _sources()
        if source.startswith("cogs/")
        for module in _imports(_tree(source))
        if _is_in(module, ("models",)) and not _is_in(module, ("models.types",))
    }
    assert found == set()


def test_cogs_never_import_each_other() -> None:
    assert {source for source in _importers("cogs") if source.startswith(("cogs/", "models/"))} == set()


def test_sql_is_written_in_the_store_alone() -> None:
    found = {
        (source, text)
        for source in _sources()
        if not _matches(source, _SQL_HOME)
        for text in _strings(_tree(source))
        if _SQL.search(text)
    }
    assert found == set()


def test_rules_about_text_know_nothing_but_text() -> None:
    found = {
        (source, module)
        for source in _sources()
        if source.startswith("bot/moderation/")
        for module in _imports(_tree(source))
        if _is_in(module, _PACKAGES) and not _is_in(module, ("bot.moderation",))
    }
    assert found == set()


def test_only_commands_and_the_terminal_print() -> None:
    found = {
        source
        for source in _sources()
        for node in ast.walk(_tree(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert {source for source in found if not _matches(source, _PRINTS)} == set()


def test_the_environment_is_read_in_settings_alone() -> None:
    readers = {
        source
        for source in _sources()
        for node in ast.walk(_tree(source))
        if (isinstance(node, ast.Attribute) and node.attr == "getenv")
        or (isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ" and _loads(node))
        or (isinstance(node, ast.Call) and ast.unparse(node.func) == "os.environ.get" and not _is_search_path(node))
    }
    assert readers <= {"bot/settings.py"}


def _loads(node: ast.Subscript) -> bool:
    return isinstance(node.ctx, ast.Load)


def _is_search_path(call: ast.Call) -> bool:
    """A subprocess may be handed the interpreter's own search path."""
    return ast.unparse(call.args[0]) == "'PYTHONPATH'"


@pytest.mark.parametrize(
    ("statement", "module"),
    [
        ("import discord.ext.commands", "discord.ext.commands"),
        ("from discord import app_commands", "discord.app_commands"),
        ("def late():\n    import discord", "discord"),
        ("if TYPE_CHECKING:\n    from discord.ext import tasks", "discord.ext.tasks"),
    ],
)
def test_every_form_of_import_is_seen(statement: str, module: str) -> None:
    assert list(_imports(ast.parse(statement))) == [module]
    assert _is_in(module, ("discord",))
    assert not _is_in("discordant", ("discord",))


@pytest.mark.parametrize(
    ("text", "is_sql"),
    [
        ("SELECT id\nFROM replies", True),
        ("INSERT OR IGNORE INTO votes VALUES (1)", True),
        ("PRAGMA journal_mode = WAL", True),
        ("Select a reply from the list", False),
        ("UPDATE in a moment", False),
    ],
)
def test_sql_is_told_from_prose(text: str, is_sql: bool) -> None:
    assert bool(_SQL.search(text)) is is_sql
