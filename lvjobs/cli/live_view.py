"""The full-screen view of `lvjobs top`: all runs, updated as they change; keys act on the selected run."""

import io
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from rich.console import Console
from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Static

from lvjobs.api.results import Status
from lvjobs.api.study import Study
from lvjobs.api.updates import newest_log
from lvjobs.cli.live_screens import Question, TextScreen, rendered
from lvjobs.control.inspect.logs import last_lines
from lvjobs.errors import LvjobsError
from lvjobs.records.summary import RunStatus, RunTable
from lvjobs.report.terminal.console import COLOURS, reason_lines
from lvjobs.report.terminal.run_lines import print_description, print_why
from lvjobs.report.terminal.stage_lines import stage_line
from lvjobs.report.terminal.status_lines import foot_lines, head_line
from lvjobs.report.terminal.status_table import Column, fitting_columns

_STAGE = "stage:"
"""The beginning of the key of a row with a stage, which is no run."""
_LOG_LINES = 1000
_OF_A_RUN = frozenset({"why", "describe", "logs", "resume", "cancel", "refresh_now"})
_RESUMED = frozenset({"held", "paused"})


class LiveView(App[None]):
    """The runs of a study, stage by stage, with the budget below."""

    CSS_PATH = "live_view.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "why", "why"),
        Binding("s,enter", "describe", "show", priority=True),
        Binding("l", "logs", "log"),
        Binding("r", "resume", "resume"),
        Binding("c", "cancel", "cancel"),
        Binding("u", "refresh_now", "update"),
        Binding("q,ctrl+c", "quit", "quit"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, study: Study, every: float, *, reconcile: bool = True) -> None:
        super().__init__()
        self._study, self._every, self._reconcile = study, every, reconcile
        self._status: Status | None = None
        self._runs: dict[str, RunStatus] = {}

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Return whether a key acts now: those for runs only act on the table, not on a screen above it."""
        return action not in _OF_A_RUN or len(self.screen_stack) == 1

    def compose(self) -> ComposeResult:
        """Return the head, the table of runs, the selected run's reason, the feet and the keys."""
        yield Static("Updating ...", id="head")
        yield DataTable(id="runs", cursor_type="row", show_header=True)
        yield Static(id="run")
        yield Static(id="feet")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to update."""
        self.theme = "ansi-dark"  # the terminal's own colours, on a dark or a light ground
        self._table.cell_padding = 0
        self._table.focus()
        self.load()
        self.set_interval(self._every, self.load)

    @property
    def _table(self) -> "DataTable[Text]":
        return self.query_one("#runs", DataTable)

    @work(thread=True, exclusive=True, group="load")
    def load(self) -> None:
        """Update the study in a thread, and show it. If that fails, say why, and keep what is shown."""
        try:
            status = self._study.status(reconcile=self._reconcile)
        except LvjobsError as error:
            self.call_from_thread(self.notify, str(error), severity="error", timeout=self._every)
        else:
            self.call_from_thread(self.show, status)

    def show(self, status: Status) -> None:
        """Show a status, with the same run selected as before."""
        self._status = status
        summary = status.parsed
        runs = RunTable.of(summary.runs)
        self._runs = {run.name: run for run in runs}
        age = status.stored.get("age_seconds")
        if not runs:
            self.query_one("#head", Static).update(Text(f"No runs yet. Type: {self._study.begin}"))
        else:
            self.query_one("#head", Static).update(head_line(summary.study, runs))
        problems = [Text(f"note: {line}", style="yellow") for line in status.problems]
        problems += [Text(f"note: {status.stale}", style="yellow")] if status.stale else []
        feet = [*problems, *foot_lines(summary, runs, age, 2)]
        self.query_one("#feet", Static).update(Text("\n").join(feet))
        selected, scrolled = self._selected_key(), self._table.scroll_offset
        self._fill(status, runs)
        keys = [str(key.value) for key in self._table.rows]
        first = next((at for at, key in enumerate(keys) if not key.startswith(_STAGE)), 0)
        self._table.move_cursor(row=keys.index(selected) if selected in keys else first)
        self._table.scroll_to(y=scrolled.y, animate=False)
        self._show_reason()

    def _fill(self, status: Status, runs: RunTable) -> None:
        """Make the table's rows: each stage, and below it its runs."""
        by_stage: dict[str, list[int]] = {}
        for place, name in enumerate(runs.column("stage")):
            by_stage.setdefault(name, []).append(place)
        stages = {stage.name: stage for stage in status.stages if stage.state != "declared" or stage.name in by_stage}
        names = [*stages, *(name for name in by_stage if name not in stages)]
        tables = [runs.take(by_stage.get(name, [])) for name in names]
        console = Console(file=io.StringIO(), width=self.size.width - 2, force_terminal=True)
        winners = {stage.winner for stage in stages.values() if stage.winner}
        columns = fitting_columns(tables, console, winners)
        table = self._table
        table.clear(columns=True)
        for column in columns:
            header = column.header.rjust(column.width) if column.right else column.header
            table.add_column(Text(header, style="dim"), width=column.width + 1)
        for place, name in enumerate(names):
            if name in stages:
                title = Text(stage_line(stages[name]), style=f"bold {COLOURS[stages[name].state]}")
            else:
                title = Text(name, style="bold")
            room = sum(column.width + 1 for column in columns)
            table.add_row(*_spread(title, columns, room), key=_STAGE + name)
            for at, run in enumerate(tables[place]):
                table.add_row(*(_cell(column, place, at, run.state) for column in columns), key=run.name)

    def _selected_key(self) -> str:
        if not self._table.row_count:
            return ""
        return str(self._table.coordinate_to_cell_key(self._table.cursor_coordinate).row_key.value)

    @property
    def selected(self) -> RunStatus | None:
        """Return the selected run; None on a stage, and without runs."""
        return self._runs.get(self._selected_key())

    def on_data_table_row_highlighted(self) -> None:
        """Show why the run that is selected now is in its state."""
        self._show_reason()

    def _show_reason(self) -> None:
        run = self.selected
        lines: Sequence[Text] = ()
        if run is not None:
            lines = reason_lines([run]) or [Text(f"{run.name}: {run.state}", style=COLOURS[run.state])]
        self.query_one("#run", Static).update(Text("\n").join(lines))

    def action_refresh_now(self) -> None:
        """Update at once."""
        self.load()

    def action_why(self) -> None:
        """Explain the state of the selected run."""
        self._answer("why ", lambda name: self._study.why(name).to_dict(), print_why)

    def action_describe(self) -> None:
        """Show all that is known of the selected run."""
        self._answer("", lambda name: self._study.describe(name).to_dict(), print_description)

    def _answer(self, title: str, ask: Callable[[str], dict[str, object]], show: Callable[..., None]) -> None:
        if run := self.selected:
            self.notify(f"asking about {run.name} ...", timeout=3)
            self._open(f"{title}{run.name}", partial(ask, run.name), show)

    @work(thread=True, group="ask")
    def _open(self, title: str, ask: Callable[[], dict[str, object]], show: Callable[..., None]) -> None:
        """Show an answer on a screen of its own; called in a thread."""
        try:
            answer = ask()
        except LvjobsError as error:
            self.call_from_thread(self.notify, str(error), severity="error")
            return

        def read(width: int) -> Text:
            return rendered(lambda console: show(answer, console), width)

        self.call_from_thread(self.push_screen, TextScreen(title, read))

    def action_logs(self) -> None:
        """Follow the log of the selected run's newest job."""
        if (run := self.selected) is None:
            return
        try:
            path: Path = newest_log(self._study, run.name)
        except LvjobsError as error:
            self.notify(str(error), severity="error")
            return

        def read(_width: int) -> Text:
            return Text("\n".join(last_lines(path, _LOG_LINES)))

        self.push_screen(TextScreen(os.path.relpath(path, self._study.root), read, follows=True))

    def action_resume(self) -> None:
        """Ask whether to resume the selected run, and do so."""
        if (run := self.selected) is None:
            return
        if run.state == "cancelled":
            self._ask(f"Submit {run.name} again?", lambda: self._study.submit_again(run.name))
        elif run.state in _RESUMED:
            self._ask(f"Resume {run.name} with the current code?", lambda: self._study.resume(run.name))
        else:
            self.notify(f"{run.name} is {run.state}: only held, paused and cancelled runs are resumed")

    def action_cancel(self) -> None:
        """Ask whether to cancel the selected run, and do so."""
        if (run := self.selected) is None:
            return
        if run.state in ("completed", "cancelled"):
            self.notify(f"{run.name} is {run.state} already")
            return
        self._ask(f"Cancel {run.name}? Its checkpoints are kept.", lambda: self._study.cancel(run.name))

    def _ask(self, question: str, act: Callable[[], Status]) -> None:
        def answered(agreed: bool | None) -> None:
            if agreed:
                self._act(act)

        self.push_screen(Question(question), answered)

    @work(thread=True, group="act")
    def _act(self, act: Callable[[], Status]) -> None:
        """Act on a run in a thread, and show the study after it."""
        try:
            status = act()
        except LvjobsError as error:
            self.call_from_thread(self.notify, str(error), severity="error", timeout=20)
            return
        for line in status.changes[:3]:
            self.call_from_thread(self.notify, line)
        self.call_from_thread(self.show, status)


def _cell(column: Column, place: int, at: int, state: str) -> Text:
    text = column.cells[place][at]
    padded = text.rjust(column.width) if column.right else text
    return Text(padded, style=COLOURS[state] if column.coloured else "", no_wrap=True, overflow="ellipsis")


def _spread(title: Text, columns: Sequence[Column], room: int) -> list[Text]:
    """Return the cells of a row over which a title extends."""
    title.truncate(room, overflow="ellipsis", pad=True)
    cells, begin = [], 0
    for column in columns:
        cells.append(title[begin : begin + column.width + 1])
        begin += column.width + 1
    return cells
