"""What can go wrong in a way that a user can put right.

::

    NextmaskError            caught by the command line: one message, no traceback, exit code 2
    ├── DataError            an image, mask, table or split
    ├── SelectionError       a strategy, its evidence or its answer
    │   └── TooFew           fewer samples can be asked for than were; says how many
    ├── TrainingError        a network, its weights or what it is trained on
    └── StudyError           a study folder, its configuration or the order of its verbs
        ├── StudyBusy        another process works on the study right now
        └── LedgerError      the ledger was changed by another process, or does not verify

Every message has three parts: what is wrong, with the value; what was expected; what to do.
Anything else that is raised is a defect of nextmask and keeps its traceback.
"""


class NextmaskError(Exception):
    """Something that the user can put right."""


class DataError(NextmaskError):
    """An image, mask, table or split cannot be used as it is."""


class SelectionError(NextmaskError):
    """A strategy was asked for something impossible, or answered with it."""


class TooFew(SelectionError):
    """Fewer samples may be asked for than were; ``available`` says how many could be had."""

    def __init__(self, message: str, available: int):
        super().__init__(message)
        self.available = available


class TrainingError(NextmaskError):
    """A network cannot be trained or loaded as asked."""


class StudyError(NextmaskError):
    """A study cannot do what was asked of it in its present state."""


class StudyBusy(StudyError):
    """Another process works on this study."""


class LedgerError(StudyError):
    """The ledger moved under a writer, or its chain of hashes is broken."""
