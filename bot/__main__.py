"""`encore`, also `python -m bot`: the command line and its exit codes.

Exit codes: 0 done or stopped in order, 1 it could not start or go on, 2 a setting or an option is wrong. An error is
one sentence on stderr; LOG_LEVEL=DEBUG adds the traceback.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bot import commands, learning_commands, log, privacy_commands
from bot.errors import EncoreError, SettingsError
from bot.settings import Settings, folder, load
from models.errors import ModelError, WrongModel

_log = logging.getLogger(__name__)


_DESCRIPTION = "A Discord character that learns from its community's reactions."
_EPILOG = "Settings come from the environment and from .env in this folder; .env.example explains each of them."
_QUIET = (
    commands.demo, commands.chat, learning_commands.night, learning_commands.rollback, learning_commands.import_file,
    learning_commands.import_prompts, privacy_commands.export_member, privacy_commands.delete_member,
)  # fmt: skip
_CODES = (
    "Exit codes: 0 done or stopped in order, 1 could not start or go on (a damaged file, no network, another Encore on "
    "the folder), 2 a setting or an option is wrong (a MODEL that is nowhere, too)."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    os.umask(0o077)  # whatever is written, a night's processes' files too, is for this account's eyes
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a console that can't show 今天 shows ??
    try:
        settings = load()
    except SettingsError as error:
        if options.command is commands.doctor and options.json:
            remedy = "Correct it in .env or in the environment; .env.example explains each setting."
            finding = {"check": "settings", "level": "error", "sentence": str(error), "remedy": remedy}
            print(json.dumps({"ready": False, "findings": [finding]}, ensure_ascii=False))
        return _failed(str(error), 2)
    # Someone talks to it or watches its bar: only what went wrong may break in.
    quiet = options.command in _QUIET and settings.log_level == "INFO"
    log.configure("WARNING" if quiet else settings.log_level, secrets=(settings.discord_token,))
    try:
        status: int = options.command(options, settings)
    except (SettingsError, WrongModel) as error:
        return _failed(str(error), 2)
    except (EncoreError, ModelError) as error:
        return _failed(str(error), 1)
    except KeyboardInterrupt:  # before or after there was something to stop in order
        return 130
    except Exception as error:
        text = f"Encore broke ({type(error).__name__}: {error}); start it with LOG_LEVEL=DEBUG to see where."
        return _failed(log.mask(text, settings.discord_token), 1)
    return status


def _failed(sentence: str, status: int) -> int:
    _log.debug("the command failed", exc_info=True)
    print(f"encore: {sentence}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="encore", description=_DESCRIPTION, epilog=f"{_EPILOG} {_CODES}")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    adder = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace, Settings], int], help: str) -> argparse.ArgumentParser:
        added = adder.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", epilog=_CODES)
        added.set_defaults(command=run)
        return added

    demo = command("demo", commands.demo, "talk to the character on a web page, without Discord and without a token")
    demo.add_argument(
        "--port", type=_port, default=0, metavar="N", help="port of the page, 0 to 65535 (default: 0 = any free one)"
    )
    demo.add_argument(
        "--host",
        type=_host,
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; any but the default lets others on your network join (default: %(default)s)",
    )
    demo.add_argument(
        "--no-browser", dest="browser", action="store_false", help="only print the address (default: also open it)"
    )
    demo.add_argument(
        "--data", type=_folder, metavar="DIR", help="folder for the demo's own database (default: DATA_DIR/demo)"
    )

    command("run", commands.run, "run on Discord (needs DISCORD_TOKEN)")

    chat = command("chat", commands.chat, "talk to the character in this terminal")
    chat.add_argument("--name", default="You", help="what the character calls you (default: %(default)s)")

    doctor = command("doctor", commands.doctor, "check whether `encore run` would start, and how to mend what is wrong")
    doctor.add_argument("--json", action="store_true", help="print one JSON object (default: a table)")

    backup = command("backup", commands.backup, "copy the database to a file, while Encore runs or not")
    backup.add_argument("file", type=Path, metavar="FILE", help="file to write")
    backup.add_argument("--overwrite", action="store_true", help="replace FILE if it exists (default: refuse)")

    restore = command("restore", commands.restore, "put a backup in the place of the database; keeps the old one aside")
    restore.add_argument("file", type=Path, metavar="FILE", help="file that `encore backup` wrote")
    night = command(
        "night", learning_commands.night, "learn from the ratings now: train, judge, and serve what is better"
    )
    night.description = (
        "Learn from the ratings now: train, judge, and serve what is better from the next start on. It takes minutes "
        "to hours, at most NIGHT_LIMIT_HOURS (default 3) over all attempts; after Ctrl+C the next night goes on where "
        "this one was."
    )

    rollback = command(
        "rollback", learning_commands.rollback, "serve an earlier adapter again, or the model without one"
    )
    rollback.add_argument(
        "adapter", nargs="?", metavar="ADAPTER", help="a name, or `base` for none (default: what was served before)"
    )

    importing = command("import", learning_commands.import_file, "take rated replies or preference pairs from a file")
    importing.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="JSONL: {prompt, completion, label} or {prompt, chosen, rejected} a line, as TRL's; see docs/import.md",
    )
    importing.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out lines that are wrong and name them (default: one wrong line, and nothing is imported)",
    )

    prompts = adder.add_parser(
        "prompts",
        help="bring prompts for the rating rooms",
        description="Bring prompts for the rating rooms.",
        epilog=_CODES,
    )
    inner = prompts.add_subparsers(title="commands", required=True, metavar="COMMAND")
    taking = inner.add_parser(
        "import",
        help="take prompts from a file, all or none",
        description="Take prompts for the rating rooms from a file, all or none.",
        epilog=_CODES,
    )
    taking.add_argument("file", type=Path, metavar="FILE", help="text file, a prompt a line, or JSONL with `prompt`")
    taking.set_defaults(command=learning_commands.import_prompts)

    mydata = adder.add_parser(
        "mydata",
        help="export or delete what is held of a member, as /mydata does",
        description="Export or delete what is held of a member, as /mydata does: for who left, or wrote to you.",
        epilog=_CODES,
    )
    inner = mydata.add_subparsers(title="commands", required=True, metavar="COMMAND")
    exporting = inner.add_parser(
        "export",
        help="write all of it to a file",
        description="Write all that is held of a member to a file.",
        epilog=_CODES,
    )
    deleting = inner.add_parser(
        "delete",
        help="delete all of it, from what was learned too",
        description="Delete all that is held of a member, from what was learned too, and print the receipt.",
        epilog=_CODES,
    )
    for asked in (exporting, deleting):
        asked.add_argument(
            "member_id", type=_member_id, metavar="MEMBER_ID",
            help="the member's id: with Discord's Developer Mode on, Copy User ID in their menu",
        )  # fmt: skip
    exporting.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="JSON file to write (default: encore-mydata-MEMBER_ID.json)"
    )
    exporting.add_argument("--overwrite", action="store_true", help="replace FILE if it exists (default: refuse)")
    exporting.set_defaults(command=privacy_commands.export_member)
    deleting.add_argument("--yes", action="store_true", help="don't ask first (default: ask)")
    deleting.set_defaults(command=privacy_commands.delete_member)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version  # a tenth of a second that only this option needs

        print(f"encore {version('encore')}")
        parser.exit()


def _folder(text: str) -> Path:
    try:
        return folder(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _host(text: str) -> str:
    if not text.strip():  # it would mean every address
        raise argparse.ArgumentTypeError("use 127.0.0.1, or 0.0.0.0 for every address of this machine")
    return text.strip()


def _member_id(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 2**63):
        raise argparse.ArgumentTypeError("use the member's id, a number such as 300000000000000001")
    return int(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError("use a whole number from 0 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
