"""One look for the progress bars of scans."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


def progress_bar(show: bool) -> Progress:
    """A bar with a count, the time an item takes, time gone and left, and a free text, the field `at` of each task.

    Silent unless `show`. On a terminal it goes to stderr, so that stdout holds results alone.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[at]}"),
        _Pace(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not show,
    )


class _Pace(ProgressColumn):
    """Seconds an item takes, or items a second."""

    def render(self, task: Task) -> Text:
        if not task.speed:
            return Text("")
        return Text(f"{task.speed:.1f}/s" if task.speed > 1 else f"{1 / task.speed:.1f} s each")
