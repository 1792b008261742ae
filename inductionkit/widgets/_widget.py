"""What all widgets share: a bundle, a payload, and a page that works without a kernel."""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import anywidget
import traitlets

from ..display.score_maps import printable
from ..system.atomic import write_atomically
from ._page import read_bundle, render_page


class PayloadWidget(anywidget.AnyWidget):
    """A widget of one bundle over one payload: `_header` (plain JSON) says what lies where in `_data`."""

    bundle: ClassVar[str]
    """The bundle in `static/`, without `.js`; its source is of that name in `frontend/src/bundles/`."""
    choices: ClassVar[tuple[str, ...]] = ()
    """The synchronised traits that a saved page opens with."""

    _esm = traitlets.Unicode().tag(sync=True)
    _header = traitlets.Dict().tag(sync=True)
    _data = traitlets.Bytes().tag(sync=True)

    def __init__(self, header: dict[str, object], data: bytes, **traits: object) -> None:
        super().__init__(_esm=read_bundle(self.bundle), _header=header, _data=data, **traits)

    @property
    @abstractmethod
    def _title(self) -> str:
        """The title of a saved page."""

    @property
    def _summary(self) -> str:
        """What a saved page shows, in one sentence, where there is one: previews of a link to it show that."""
        return ""

    @property
    def _provenance(self) -> list[str]:
        """Where the data of a saved page come from."""
        return [printable(self._title)]

    def _payload_to_save(self) -> tuple[dict[str, object], bytes]:
        """Header and data of a saved page: what is on show, unless a page needs other things than a kernel's reader."""
        return self._header, self._data

    @property
    def _script_to_save(self) -> str:
        """The script of a saved page: the bundle, after what it needs of other projects."""
        return self._esm

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the widget, as it stands, to one HTML file that works without kernel or network.

        The file opens with what is chosen now, and ends with a line that says where its data come from, which version
        wrote it, and when (in UTC; `SOURCE_DATE_EPOCH` sets another date). It replaces `path` in one move.
        """
        path = Path(path)
        header, data = self._payload_to_save()
        state = {"_header": header, **{name: getattr(self, name) for name in self.choices}}
        written = datetime.fromtimestamp(float(os.environ.get("SOURCE_DATE_EPOCH", time.time())), UTC)
        origin = " · ".join([*self._provenance, f"inductionkit {version('inductionkit')}", f"{written:%Y-%m-%d}"])
        page = render_page(self._title, state, data, self._script_to_save, self._summary, origin)
        write_atomically(path, page.encode())
        return path
