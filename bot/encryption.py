"""Does the disk below a folder encrypt what is written there, as far as this system shows?

Linux: the mount table, device-mapper (LUKS), fscrypt, encrypting file systems and ZFS. macOS: FileVault. Windows:
BitLocker. Changes nothing; needs no rights. What a cloud provider or a disk does by itself can't be seen from inside.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_ENCRYPTING_FILE_SYSTEMS = {"ecryptfs", "fuse.gocryptfs", "fuse.encfs", "fuse.cryfs"}
_GET_FLAGS, _ENCRYPTED_FLAG = 0x80086601, 0x800  # FS_IOC_GETFLAGS and FS_ENCRYPT_FL of <linux/fs.h>
_SECONDS = 10


class Encryption(StrEnum):
    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/self/mountinfo. `device` is major:minor, `source` a device node or a data set's name."""

    device: str
    point: str
    kind: str
    source: str


def disk_encryption(folder: Path) -> Encryption:
    """Return whether the disk of an existing folder is encrypted; blocks."""
    folder = folder.resolve()
    if sys.platform == "linux":
        return _linux(folder, Path("/"))
    if sys.platform == "darwin":
        return _answer_of(["fdesetup", "status"], on="FileVault is On", off="FileVault is Off")
    if sys.platform == "win32":
        status = ["manage-bde", "-status", folder.drive]
        return _answer_of(status, on="Protection On", off="Protection Off")
    return Encryption.UNKNOWN


def _linux(folder: Path, root: Path) -> Encryption:
    if _is_fscrypt(folder):
        return Encryption.ON
    try:
        table = (root / "proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return Encryption.UNKNOWN
    mount = mount_of(folder, table)
    if mount is None:
        return Encryption.UNKNOWN
    if mount.kind in _ENCRYPTING_FILE_SYSTEMS:
        return Encryption.ON
    if mount.kind == "zfs":
        command = ["zfs", "get", "-H", "-o", "value", "encryption", mount.source]
        return _answer_of(command, on="aes-", off="off")
    device = mount.device
    if device.startswith("0:"):  # btrfs numbers its volumes itself; its source names the device
        try:
            number = (root / mount.source.lstrip("/")).stat().st_rdev
        except OSError:
            return Encryption.UNKNOWN
        device = f"{os.major(number)}:{os.minor(number)}"
    block = root / "sys/dev/block" / device
    if not block.exists():
        return Encryption.UNKNOWN
    return Encryption.ON if _is_encrypted(block.resolve()) else Encryption.OFF


def mount_of(folder: Path, table: str) -> Mount | None:
    """Return the mount that holds an absolute path, from the text of a mountinfo table."""
    found: Mount | None = None
    for line in table.splitlines():
        before, separator, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if not separator or len(fields) < 5 or len(rest) < 2:
            continue
        mount = Mount(fields[2], _unescaped(fields[4]), rest[0], _unescaped(rest[1]))
        # A later line of the same point lies over the earlier one.
        if folder.is_relative_to(mount.point) and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _is_encrypted(block: Path) -> bool:
    """Return whether a block device, or every device below it, is one of dm-crypt's."""
    with contextlib.suppress(OSError):
        if (block / "dm/uuid").read_text("ascii").startswith("CRYPT-"):
            return True
    with contextlib.suppress(OSError):
        below = [child.resolve() for child in (block / "slaves").iterdir()]
        return bool(below) and all(map(_is_encrypted, below))
    return False  # a plain disk or partition


def _is_fscrypt(folder: Path) -> bool:
    with contextlib.suppress(OSError, ImportError):
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
        try:
            flags = fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8))
        finally:
            os.close(descriptor)
        return bool(struct.unpack("i", flags[:4])[0] & _ENCRYPTED_FLAG)
    return False


def _answer_of(command: list[str], *, on: str, off: str) -> Encryption:
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, and a device's or a data set's name
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return Encryption.UNKNOWN
    if on in done.stdout:
        return Encryption.ON
    return Encryption.OFF if off in done.stdout else Encryption.UNKNOWN
