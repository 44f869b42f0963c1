"""What can go wrong in the services, each told in one sentence that says what to do.

EncoreError
|- SettingsError        a setting is missing or wrong: names the key, the value and the remedy
|- StoreError           the database can't be used
|  |- StoreBusy         another process holds the lock, or another Encore runs on this data folder
|  |- StoreDamaged      the file failed its integrity check and was kept aside
|  |- StoreFull         the disk is full
|  `- StoreRefused      a value that the schema doesn't take; trying again won't help
|- StartError           a start-up step failed (token refused, intent missing)
|- NightError           a night can't begin
|  |- NightRunning      another one is under way
|  `- NightRefused      learning is frozen, or this model can't learn
|     `- NothingNew     the planned night would judge the same ratings again
|- AdapterChangeRefused a rollback to what isn't there, or the engine didn't take it
`- ImportRefused        a file to import has a wrong line: names its number
"""


class EncoreError(Exception):
    """Root of every error that bot raises on purpose; `str()` is fit for a person."""


class SettingsError(EncoreError):
    pass


class StoreError(EncoreError):
    pass


class StoreBusy(StoreError):
    pass


class StoreDamaged(StoreError):
    pass


class StoreFull(StoreError):
    pass


class StoreRefused(StoreError):
    pass


class StartError(EncoreError):
    pass


class NightError(EncoreError):
    pass


class NightRunning(NightError):
    pass


class NightRefused(NightError):
    pass


class NothingNew(NightRefused):
    pass


class AdapterChangeRefused(EncoreError):
    pass


class ImportRefused(EncoreError):
    pass
