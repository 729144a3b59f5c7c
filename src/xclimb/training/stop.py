"""SIGINT and SIGTERM during a training: the step is finished and the state saved; a second SIGINT ends at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class StopSignals:
    """Context in which signals only request a stop; :meth:`asked` says whether one came.

    Outside the main thread, where Python handles no signals, nothing changes.
    """

    def __init__(self) -> None:
        self._name: str | None = None
        self._before: dict[int, Any] = {}

    @property
    def name(self) -> str | None:
        """The signal that came: ``"SIGTERM"``; None if none did."""
        return self._name

    def asked(self) -> bool:
        """Whether an end was asked for."""
        return self._name is not None

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self._name == "SIGINT":
            raise KeyboardInterrupt
        self._name = signal.Signals(number).name

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
