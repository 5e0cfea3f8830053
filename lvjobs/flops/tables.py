"""FLOP counts side by side for a terminal; plain text in a pipe."""

import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from lvjobs.flops.conventions import CONVENTIONS, caveats
from lvjobs.flops.published import PublishedTables
from lvjobs.flops.workload import PARTS, Counts, Workload

_PIPE_WIDTH = 80
_ANY_WIDTH = 10_000


def print_counts(model: str, workload: Workload, results: Mapping[str, Counts], console: Console | None = None) -> None:
    """Print a column for each convention: in full where they fit, else to four digits, or with names on two lines."""
    console = console or _console()
    _say(console, f"{model}: {_described(workload)}")

    def rows(style: str) -> list[tuple[str, list[str]]]:
        return [
            (part.replace("_", " "), [style.format(getattr(counts, part)) for counts in results.values()])
            for part in PARTS
        ]

    broken = [name.replace("-", "-\n") for name in results]
    tables = (
        _table("FLOPs", list(results), rows("{:,}")),
        _table("FLOPs", list(results), rows("{:.3e}")),
        _table("FLOPs", broken, rows("{:.3e}")),
    )
    wide = console.options.update(width=_ANY_WIDTH)
    fits = (table for table in tables if console.measure(table, options=wide).maximum <= console.width)
    console.print(next(fits, tables[-1]))
    for name in results:
        _say(console, f"{name}: {CONVENTIONS[name].meaning}")
    for note in caveats(workload, tuple(results)):
        _say(console, f"note: {note}")


def print_published(found: PublishedTables, console: Console | None = None) -> None:
    """Print the study's figures, those of its formula and of the official rules, and the reasons where they differ."""
    console = console or _console()
    for title, figures, style in (
        ("Table 1: one pass over 4 x 512 tokens of Qwen2.5-0.5B, r 4", found.table_1, "{:,}"),
        ("Table 4: FLOPs of training", found.table_4, "{:.3e}"),
        ("Elsewhere", found.elsewhere, "{:,}"),
    ):
        _say(console, title)
        rows = [
            (
                figure.name,
                [
                    figure.printed or "-",
                    *("none" if each is None else style.format(each) for each in (figure.formula, figure.official)),
                ],
            )
            for figure in figures
        ]
        console.print(_table("", ("printed", "its formula", "official rules"), rows))
        for figure in figures:
            if figure.why:
                _say(console, f"{figure.name.partition(':')[0]} {figure.printed}: {figure.why}")
        for why in dict.fromkeys(figure.difference for figure in figures if figure.difference):
            names = [figure.name.partition(":")[0] for figure in figures if figure.difference == why]
            _say(console, f"official rules, {', '.join(names)}: {why}")
        console.print()
    _say(console, "-: the printed digits are not on record here. Generation, validation and evaluation: never counted.")


def _described(workload: Workload) -> str:
    adapters = f"LoRA r {workload.lora_rank} on {workload.lora_targets}" if workload.lora_rank else ""
    words = [
        f"{workload.batch} x {workload.length} tokens",
        workload.precision,
        adapters,
        "inference" if workload.inference else "training" if adapters else "full fine-tuning",
        "gradient checkpointing" if workload.gradient_checkpointing else "",
        "" if workload.numeric_head is None else f"head of {workload.numeric_head}",
    ]
    cache = "with" if workload.kv_cache else "without"
    times = f"{workload.samples} x " if workload.samples > 1 else ""
    forecast = f"generation of {times}{workload.new_tokens} after {workload.prompt_tokens}, {cache} KV cache"
    return f"{', '.join(filter(None, words))}; {forecast}"


def _table(title: str, names: Sequence[str], rows: Sequence[tuple[str, list[str]]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column(title, no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for part, values in rows:
        table.add_row(part, *values)
    return table


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def _say(console: Console, line: str) -> None:
    """Print a sentence without wrapping it, so that a program can read it."""
    console.print(line, soft_wrap=True, markup=False)
