"""What members are told of their data: the public text of `/privacy`, made from the settings that really hold.

Words only. What they promise is kept elsewhere, and each promise has its test there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.backups import COPY_DAYS, gone_by

if TYPE_CHECKING:
    from bot.privacy.forget import Receipt
    from bot.settings import Settings

LOCKED = "Text and ratings of Discord's channels teach me nothing: Discord forbids that without its permission."
GRANTED = (
    "Whoever runs me states that Discord gave permission to learn from messages. Even so, a reply teaches me only when "
    "everybody agreed with /consent give whose words I read for it, or had read for my own answers among them. Where "
    "I repeat an answer word for word, whoever is behind that counts as well."
)
_ROOM = (
    "In rating rooms I answer prompts that whoever runs me brought; a reaction there teaches me when its member agreed "
    "with /consent give."
)
# What a receipt counts, by the store's table.
_ROWS = {
    "replies": ("reply to you", "replies to you"),
    "prompts": ("reply to others that had read you", "replies to others that had read you"),
    "ratings": ("rating", "ratings"),
    "comparisons": ("comparison", "comparisons"),
    "corrections": ("correction", "corrections"),
    "gold": ("label", "labels"),
    "reports": ("report", "reports"),
    "member_usage": ("count of today's questions", "counts of today's questions"),
    "cases": ("case of the moderators' about you", "cases of the moderators' about you"),
}


def privacy_text(settings: Settings, *, model: str) -> str:
    """Return the notice in Discord's markdown, at most 4096 characters."""
    days = _days(settings.retention_days_replies)
    contact = settings.privacy_contact or "this server's moderators, who know whoever runs me"
    everywhere = ", and every message in the channels where I answer without a mention"
    intent = f"direct messages, messages that mention me, replies to mine{everywhere * settings.message_content_intent}"
    return "\n\n".join(
        [
            f"**I am a bot.** What I write is made by a language model ({model}) on the machine of whoever runs me; "
            "no other company gets your messages. I can be wrong.",
            f"**What I read:** {intent}, with the messages before them that they need to be understood.",
            f"**What I keep:** for {days}, my replies, the ids of the messages and members they answered, the text "
            "that I read for them in the form the model reads, ratings, with since when their rater is a member and "
            "whether they moderate, what you write in my forms, and how much you asked today. That you asked for a "
            f"night, or one names you, is kept for {_days(settings.retention_days_nights)}; moderators' changes, "
            "reports to them, and messages and answers that a server's filter hid or reported to them, for "
            f"{_days(settings.retention_days_audit)}. Whether you agreed, opted out, or "
            "are muted or banned from rating stays until that changes. Backups are for whoever runs me to delete; when "
            "one is put back, what was deleted since is deleted from it again, and what you chose since holds. "
            f"A database that was replaced so, or damaged, is removed after {COPY_DAYS} days.",
            f"**What I learn from:** {GRANTED if settings.discord_training_permission else LOCKED} {_ROOM} Ratings are "
            "also counted, to choose between versions of me; such counts name nobody.",
            "**What you can do:**\n"
            "- /mydata export: you get all that I hold of you, in a file.\n"
            "- /mydata delete: I delete it, from what I learned too: versions of me that had read you are taken away. "
            "So go the texts of my answers that had read you, of those that had read one of these, and of those that "
            "repeat them; what was retold in other words beyond that isn't found.\n"
            "- /mydata optout: I read, answer and keep nothing of yours.\n"
            "- /consent withdraw: you teach me nothing.\n"
            "- “Report this reply” in a reply's menu brings it before the server's moderators. Direct messages have "
            "none: there, tell who answers for me.",
            f"**Who answers for me:** {contact}.",
        ]
    )


def receipt_text(receipt: Receipt) -> str:
    """Say what a deletion or a withdrawal did."""
    lines = []
    if receipt.rows is not None:
        counted = [
            f"{count:,} {names[count != 1]}" for table, names in _ROWS.items() if (count := receipt.rows.get(table, 0))
        ]
        lines.append(f"Deleted: {', '.join(counted)}." if counted else "I held no reply or rating of yours.")
    if receipt.nights:
        lines.append(f"What {len(receipt.nights)} {_plural('night', receipt.nights)} had read of you is removed.")
    if receipt.adapters:
        serving = f"version {receipt.serving}" if receipt.serving else "the model as it came"
        lines.append(
            f"{len(receipt.adapters)} {_plural('version', receipt.adapters)} of me that had learned from you "
            f"{'is' if len(receipt.adapters) == 1 else 'are'} removed; {serving} answers now"
            f"{', and I learn anew without you in the next night' * receipt.learns_anew}."
        )
    if not receipt.nights and not receipt.adapters:
        lines.append("No version of me had learned from you.")
    if receipt.rows is not None:
        lines.append(
            "Kept: that you asked for this, so that a restored backup deletes it again; whether you opted out "
            "or are muted; and, if you moderate, what you changed. In memory alone, until midnight UTC: how much you "
            "asked today. My messages stay in the channels until a moderator deletes them."
        )
    if receipt.copies:
        what, them = ("A copy", "it") if len(receipt.copies) == 1 else (f"{len(receipt.copies)} copies", "them")
        gone = gone_by(receipt.copies)
        removed = f"remove {them} by {gone}" if gone else f"whoever runs me has to remove {them}"
        lines.append(
            f"{what} of my database from before a restore or a damage may still hold it; I read nothing there, and "
            f"{removed}."
        )
    if receipt.failures:
        lines.append("Not all of it could be removed yet; I try again when I start next.")
    return "\n".join(lines)


def _days(days: int) -> str:
    return "as long as I run" if not days else f"{days} day{'s' * (days != 1)}"


def _plural(noun: str, things: tuple[str, ...]) -> str:
    return f"{noun}{'s' * (len(things) != 1)}"
