"""What `encore mydata` does, for who can't use /mydata: members who left, requests by mail, exports of any size.

As `bot.learning_commands`: it needs the data folder to itself, and errors are `__main__`'s to tell.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from bot.errors import StartError
from bot.learning_commands import open_learning, open_store

if TYPE_CHECKING:
    from bot.settings import Settings


def export_member(options: argparse.Namespace, settings: Settings) -> int:
    """Write all that is held of a member to a file of mode 0600."""
    path = options.file or Path(f"encore-mydata-{options.member_id}.json")
    if path.exists() and not options.overwrite:
        raise StartError(f"{path} exists: choose another name, or add --overwrite.")
    asyncio.run(_export(options.member_id, path, settings))
    return 0


def delete_member(options: argparse.Namespace, settings: Settings) -> int:
    """Delete all that is held of a member and print the receipt; 1 when it was not confirmed."""
    if not options.yes and not _confirmed(options.member_id):
        print("Nothing was changed.")
        return 1
    asyncio.run(_delete(options.member_id, settings))
    return 0


async def _export(member_id: int, path: Path, settings: Settings) -> None:
    from bot.composition import NIGHTS
    from bot.database import explained
    from bot.privacy.export import export
    from models.learning.files import write_bytes

    async with open_store(settings, "use /mydata export there, or stop it and export again") as store:
        nights = settings.database.parent / NIGHTS
        found = await export(store, member_id, nights=nights, models=settings.models_dir)
    with explained(path):
        await asyncio.to_thread(write_bytes, path, found.data)
    print(f"Wrote all that is held of member {member_id} to {path}: {found.told}.")
    print("Only this account can read the file: give it to nobody but the member, and remove it then.")


async def _delete(member_id: int, settings: Settings) -> None:
    from bot.privacy.notice import receipt_text

    async with open_learning(settings, "/mydata delete") as learning:
        receipt = await learning.forget.delete(member_id)
    print(f"The receipt, in the words that the member is owed:\n\n{receipt_text(receipt)}\n")
    if receipt.copies:
        names = ", ".join(map(str, receipt.copies))
        print(f"Copies of the database that may still hold their data, for you to remove: {names}, and your backups.")
    else:
        print("Backups that you made may still hold their data; `encore restore` deletes it again.")


def _confirmed(member_id: int) -> bool:
    try:
        said = input(f"Delete all that is held of member {member_id}, from what was learned too, for good? [y/N] ")
    except EOFError:
        print()
        return False
    return said.strip().lower() in ("y", "yes")
