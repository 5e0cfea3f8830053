"""The screens of `lvjobs top` beside the table: a text that scrolls, and a question."""

import io
from collections.abc import Callable
from typing import ClassVar

from rich.console import Console
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Static

_LOG_SECONDS = 1.0


def rendered(print_it: Callable[[Console], None], width: int) -> Text:
    """Return what a function prints on a terminal of this width."""
    console = Console(file=io.StringIO(), width=max(20, width), force_terminal=True, color_system="standard")
    print_it(console)
    assert isinstance(console.file, io.StringIO)
    return Text.from_ansi(console.file.getvalue())


class TextScreen(Screen[None]):
    """A text that scrolls, over the whole screen. `read` is called again every second if `follows`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,escape", "app.pop_screen", "back"),
        Binding("g,home", "top", "top", show=False),
        Binding("G,end", "bottom", "end", show=False),
    ]

    def __init__(self, title: str, read: Callable[[int], Text], *, follows: bool = False) -> None:
        super().__init__()
        self._heading, self._read, self._follows = title, read, follows

    def compose(self) -> ComposeResult:
        """Return the title, the text and the keys."""
        yield Static(Text(self._heading, style="bold"), id="title")
        yield VerticalScroll(Static(id="text"))
        yield Footer()

    def on_mount(self) -> None:
        """Show the text; if it follows, at its end."""
        self._fill()
        self.query_one(VerticalScroll).focus()
        if self._follows:
            self.query_one(VerticalScroll).scroll_end(animate=False)
            self.set_interval(_LOG_SECONDS, self._fill)

    def _fill(self) -> None:
        place = self.query_one(VerticalScroll)
        at_end = place.scroll_offset.y >= place.max_scroll_y
        self.query_one("#text", Static).update(self._read(self.size.width - 2))
        if self._follows and at_end:
            place.scroll_end(animate=False)

    def action_top(self) -> None:
        """Scroll to the first line."""
        self.query_one(VerticalScroll).scroll_home(animate=False)

    def action_bottom(self) -> None:
        """Scroll to the last line."""
        self.query_one(VerticalScroll).scroll_end(animate=False)


class Question(ModalScreen[bool]):
    """A question that is answered with y or n."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape,q", "answer(False)", "no"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """Return the question."""
        yield Vertical(Static(Text(self._text)), Static(Text("y: yes   n: no", style="bold")), id="question")

    def action_answer(self, agreed: bool) -> None:
        """Close the question with its answer."""
        self.dismiss(agreed)
