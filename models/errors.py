"""What can go wrong with a model, each told in one sentence that says what to do.

ModelError
|- ModelUnavailable    the weights can't be fetched, are damaged, or are of no known kind
|  `- WrongModel       MODEL or SAFETY_MODEL names nothing that could be loaded: the setting is wrong
|- QueueFull           too many requests wait; the asker should try again in a moment
|- DiskFull            there was no room for a file of a night
|- AdapterRefused      an adapter is damaged, of another model, not there, or llama.cpp doesn't take it
|- PromptTooLong       what can't be dropped (instructions and the newest message) exceeds the context
`- EngineFailed        the engine broke while it generated
   `- AdapterGone      a request waited for an adapter that was taken out of service meanwhile
"""


class ModelError(Exception):
    """Root of every error that models raises on purpose; `str()` is fit for a person."""


class ModelUnavailable(ModelError):
    pass


class WrongModel(ModelUnavailable):
    pass


class QueueFull(ModelError):
    pass


class DiskFull(ModelError):
    pass


class PromptTooLong(ModelError):
    pass


class AdapterRefused(ModelError):
    pass


class EngineFailed(ModelError):
    pass


class AdapterGone(EngineFailed):
    pass
