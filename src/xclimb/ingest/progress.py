"""A progress line of an ingest."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(show: bool) -> Iterator[Callable[[int, int, str], None]]:
    """A spinner with counts, or nothing."""
    if not show:
        yield lambda kept, rejected, name: None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as progress:
        task = progress.add_task("reading", total=None)
        yield lambda kept, rejected, name: progress.update(task, description=f"{name}: {kept} frames, {rejected} rejected")
