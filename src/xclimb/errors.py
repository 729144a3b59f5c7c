"""The errors a user can meet: one clear sentence each, naming the file or frame and the way out.

The command line prints the sentence and exits with status 2; only a bug in xclimb shows a traceback.
"""


class XclimbError(Exception):
    """Base of every error that xclimb raises on purpose."""


class DataError(XclimbError):
    """Labelled structures that cannot be used as they are: broken files, NaN labels, wrong shapes, empty sets."""


class TheoryError(XclimbError):
    """Levels of theory that may not be mixed, or one that is needed and not known."""


class ConfigError(XclimbError):
    """A setting that is unknown, of the wrong kind, or without effect."""


class ReferencesError(XclimbError):
    """Elemental references that cannot be fitted or do not cover the data."""


class CheckpointError(XclimbError):
    """A potential or run folder that cannot be read: missing, truncated, newer than this xclimb."""


class TrainingError(XclimbError):
    """A training that cannot go on: a lost process, no room or no right to write, no memory."""


class XclimbWarning(UserWarning):
    """Something a user should know that does not stop the work."""


def counted(number: int, noun: str) -> str:
    """A number with its noun, for messages: ``1 frame``, ``2 frames``, ``1 580 395 frames``."""
    return f"{number:,}".replace(",", " ") + f" {noun}{'' if number == 1 else 's'}"
