"""docs/errors.md: every error message with what happened, what it means and what to type (`python scripts/make_errors.py`).

Made from the source alone. The house writes its messages as `WHAT; MEANING: REMEDY`, and that is how they are told apart
here: the remedy begins with the first clause that begins with a verb of `VERBS`, and what stands before it is split at
its first semicolon. What a message leaves out because it is true of all of its kind is a `Default`, said once in the head.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from messages import Message, Scan

PAGE = Path(__file__).parent.parent / "docs" / "errors.md"

VERBS = frozenset(
    re.findall(
        r"\w+",
        "add ask call change check choose copy declare decode did do drop edit fetch free give leave let load lower make "
        "mend mind move name pass pin put raise remove rename repair report restore return run say score see set sort stop "
        "store submit sudo take try type unset use wait write",
    )
)
"""What a remedy may begin with. A new message is worded so, or adds its verb."""


@dataclass(frozen=True)
class Default:
    """What is true of all messages of a kind that do not say it themselves. No `remedy`: each says its own."""

    words: str
    exit: str
    meaning: str
    remedy: str = ""


NOTHING = Default("nothing was made", "2", "What was typed cannot be used. Nothing was made, submitted or changed.")
NOT_DONE = Default("it was not done", "1", "The command ended there. What was submitted goes on.")
HELD = Default(
    "the run is held",
    "1, the job's",
    "The attempt ends, and its job. What is in a checkpoint stays, other runs go on. The run is held, because it would meet "
    "the same again; `lvjobs why RUN` shows the message.",
    "mend it, then type: lvjobs resume RUN",
)
REFUSED = Default(
    "the job does not train",
    "1, the job's",
    "The process ends without a step, so nothing is spent. The message is in the log (`lvjobs logs RUN`). The run is "
    "submitted again, and held the third time in a row (`[policy] no_progress_deaths`).",
)
EITHER = Default(
    "nothing was made, or the run is held",
    "2, or 1, the job's",
    "A command says it before anything is made. Where only a job can find it out, the run is held.",
)
GOES_ON = Default(
    "the run goes on",
    "as killed",
    "The attempt ends, and the run goes on at its newest checkpoint.",
    "nothing; see: lvjobs why RUN",
)
PASSED_OVER = Default(
    "it is not believed",
    "·",
    "A file of a run makes no sense. Whoever reads it passes it over, and says so.",
    "see: lvjobs ledger check",
)
CALL = Default(
    "the call is wrong",
    "·",
    "A function was called from Python with what it cannot use. In a job the run is held.",
    "mend the call",
)
FAULT = Default(
    "a fault of lvjobs",
    "1",
    "lvjobs is at odds with itself: nothing that you typed.",
    "report it, with the whole message",
)
SAID: Mapping[str, Default] = {
    "SubmitRefused": Default(
        "no job was made",
        "2, or ·",
        "There is no job. At a prompt nothing was made; in a pass, the run is held.",
        "change [resources] in study.toml, or the profile, then type: lvjobs resume RUN",
    ),
    "SubmitDeferred": Default(
        "later",
        "·",
        "There is no job, and the run stays planned: every pass tries again.",
        "wait; or type: lvjobs resume",
    ),
    "SubmitUnclear": Default(
        "it is looked up",
        "·",
        "There may be a job. It is looked up by its token before anything is submitted again.",
        "wait; or type: lvjobs resume",
    ),
    "ClusterSilent": Default(
        "nothing is known",
        "·",
        "Nothing follows for any job. A pass says so, and the next one asks again.",
        "wait; or type: lvjobs resume",
    ),
    "SchedulerSilent": Default(
        "the job goes on", "·", "A job asked Slurm about itself, and goes on without the answer.", "nothing"
    ),
    "ClusterError": Default(
        "not done, and told",
        "·",
        "Slurm would not do it. A pass says so and goes on; the next one sees how the job stands, and tries again.",
        "wait; or type: lvjobs resume",
    ),
}
"""Of what the scheduler said, by its class."""


@dataclass(frozen=True)
class Section:
    """Messages that are met in one place. `where`: modules, rooms, or `module:function`; the longest that fits decides.

    `by_kind`, and then `default`, is what is true of its messages; without, that goes by the exit code.
    """

    title: str
    where: str
    head: str
    default: Default | None = None
    by_kind: Mapping[str, Default] | None = None
    prefix: str = ""
    """What stands before each message that has not said it itself."""


SECTIONS = (
    Section(
        "Any command",
        "cli control report study.names study.config:load_study study.config:read_toml "
        "study.config:validated ledger.database ledger.lease files",
        "The study, its ledger, and whoever else makes a pass over it.",
        by_kind={"PermissionError": PASSED_OVER},
    ),
    Section(
        "study.toml",
        "study sweep",
        "FILE is `study.toml`, or that of `--config`; a value that was typed with `--set` reads the same "
        "([all keys](study-toml.md)).",
        NOTHING,
        prefix="FILE: KEY = VALUE: ",
    ),
    Section(
        "lvjobs submit and sweep",
        "cli.entering cli.own cli.settings cli.submit cli.sweep control.declare control.enter control.code control.stages "
        "control.standing",
        "What is submitted, and what it would be ([sweeps](sweeps.md), [tasks](tasks.md)).",
    ),
    Section(
        "The batch script",
        "cluster.profiles cluster.templates cluster.sites cluster.slurm:SlurmCluster.submit "
        "cluster.simulated:SimulatedCluster.check",
        "What a profile is given and a site allows ([profiles](profiles.md)).",
        NOTHING,
    ),
    Section(
        "Budget, FLOPs and estimates",
        "cli.flops cli.estimate flops control.limit control.own_cost control.instruction worker.measure",
        "What it costs ([FLOPs](flops.md)).",
        by_kind={"ValueError": NOTHING},
    ),
    Section(
        "Data",
        "cli.data forecasting.data forecasting.systems forecasting.splits:training_split forecasting.splits:make_split",
        "The HDF5 file, wherever it is read.",
    ),
    Section(
        "Base models",
        "cli.model forecasting.hub forecasting.pull forecasting.convert forecasting.prompts forecasting.tokenizer",
        "What `lvjobs model` says, and whatever names a model ([models](models.md)).",
        by_kind={"UsageError": NOTHING, "LvjobsError": EITHER},
    ),
    Section(
        "lvjobs evaluate, forecast, figures and report",
        "cli.evaluate cli.forecast cli.subjects control.evaluations forecasting.results forecasting.series_forecast "
        "report.outputs",
        "What is evaluated, drawn and written ([evaluations](evaluate.md), [figures](figures.md)).",
    ),
    Section(
        "lvjobs logs, queue and driver",
        "cli.logs control.sooner control.driver_ways cluster.crontab",
        "What waits, and who goes on with it ([the driver](driver.md)).",
    ),
    Section(
        "lvjobs ledger",
        "cli.ledger control.check control.rebuild control.recover ledger.copies",
        "Copies of `runs.db`, and a new one ([the ledger](ledger.md)).",
    ),
    Section("lvjobs lab and rehearse", "lab rehearsal", "[The lab](lab.md), and [rehearsals](rehearsal.md) in it."),
    Section(
        "What the scheduler says",
        "cluster doctor control.placing control.submission",
        "Quoted in what a pass says that it did and met, and in `lvjobs why RUN`; Slurm's own words stand there as they are.",
        by_kind=SAID,
    ),
    Section(
        "In a job",
        "worker forecasting",
        "These end an attempt. They are in its log (`lvjobs logs RUN`), and in what `lvjobs why RUN` says.",
        HELD,
        {"RunRefused": REFUSED, "PeerLost": GOES_ON, "Superseded": GOES_ON},
    ),
    Section(
        "In a training function of your own",
        "worker.attempt worker.state worker.task worker.trainer worker.checkpoints:_check_state_name "
        "worker.checkpoints:_call_saver worker.checkpoints:_files",
        "What a function did that a run cannot bear ([tasks](tasks.md)).",
        HELD,
    ),
    Section(
        "From Python",
        "forecasting.splits forecasting.metrics forecasting.baselines forecasting.codec forecasting.sampling "
        "forecasting.decode:scale_of forecasting.results:Result forecasting.series_forecast:SeriesForecast.__post_init__",
        "Functions that score and forecast, called by a program of your own. No command calls them so.",
        CALL,
    ),
    Section(
        "Files that are read back",
        "records worker.checkpoints:verify worker.checkpoints:find_newest_valid worker.state:unpack ledger.memo "
        "cluster.inside:parse_job_json",
        "They stand in what a pass, a job or `lvjobs ledger check` says of a run.",
        PASSED_OVER,
    ),
    Section(
        "Inside lvjobs",
        "__init__ forecasting.cache forecasting.pretrain forecasting.examine:examine ledger.migrations report.figures",
        "Nobody should meet these.",
        FAULT,
    ),
)

PASSED_ON: Mapping[tuple[str, str], str] = {
    ("control.enter", "SHORTFALL"): "OverBudget words it",
    ("cluster.templates", "TEXT"): "ProfileError: the message where it is made, handed to its class",
    ("cli.estimate", "--flops-per-second: REASON"): "what study.numbers says, after the option",
    ("cli.flops", "OPTS: REASON"): "what study.numbers says, after the option",
    ("cli.subjects", "PROBLEM"): "what the pass met",
    (
        "study.space",
        "stage STAGE searches KEY: REASON",
    ): "what is wrong with a space's values, after the stage and the key",
    ("study.space", "ANSWER"): "what pydantic says of a key of the space, or that it is none",
    ("forecasting.hub", "REASON"): "what forecasting.tokenizer says, at a prompt",
    ("control.placing", "ANSWER"): "what the scheduler said, of all that was tried",
    ("doctor.examine", "REFUSALS"): "what the scheduler said, of all that was tried",
    ("worker.journal", "STRERROR"): "the message of the journal is made of it a few lines on",
    ("worker.team", "REASON"): "never shown: the first process says which one was lost",
    ("cluster.local_job", "VALUE"): "an exit code",
}
"""Messages that are none of their own, by module and text, and why they have no row."""


@dataclass(frozen=True)
class Row:
    """A line of the page. `meaning` and `remedy` are what the message itself says."""

    section: Section
    message: Message
    default: Default
    what: str
    meaning: str
    remedy: str


def section_of(message: Message) -> Section:
    """Where a message is met. Raises LookupError where no section has a place for it."""
    place = f"{message.module}:{message.function}"

    def fit(section: Section) -> int:
        parts = section.where.split()
        return max(
            (len(each) for each in parts if place.startswith(each) and (":" in each or place[len(each)] in ".:")),
            default=0,
        )

    found = max(SECTIONS, key=fit)
    if not fit(found):
        raise LookupError(f"{place}: no section of tests/errors_page.py has a place for it: add its module to one")
    return found


def rows_of(scan: Scan) -> list[Row]:
    """All messages, taken apart: section by section, and sorted in each; of equal ones, one."""
    rows = [_row(message, scan) for message in scan.messages if (message.module, message.text) not in PASSED_ON]
    rows.sort(key=lambda row: (SECTIONS.index(row.section), row.what.lower(), row.meaning, row.remedy))
    return list(
        {(row.section.title, row.default.words, row.what, row.meaning, row.remedy): row for row in rows}.values()
    )


def _row(message: Message, scan: Scan) -> Row:
    section, line = section_of(message), scan.lineage(message.kind)
    chosen = next((default for kind, default in (section.by_kind or {}).items() if kind in line), section.default)
    default = chosen or (NOTHING if "UsageError" in line else NOT_DONE)
    prefix = section.prefix if message.kind == "ValueError" else ""
    return Row(section, message, default, *split(prefix + message.text))


_ENDS = re.compile(r"; |: |\. |, so |\? ")
_LEADS = (" type", " then")


def split(text: str) -> tuple[str, str, str]:
    """What happened, what it means, and what to type; empty where the message does not say."""
    ends = [match for match in _ENDS.finditer(text) if _is_outside(text, match.start())]
    number = next((number for number, end in enumerate(ends) if _is_remedy(text[end.end() :])), None)
    if number is None:
        return (*_halves(text), "")
    end, before = ends[number], ends[number - 1] if number else None
    is_led = text[: end.start()].endswith(_LEADS) or text[end.end() :].startswith("lvjobs ")
    if before is not None and is_led and before[0] != ", so ":
        end = before  # `on a login node, type: lvjobs model pull M` is told from its first word on
    return (*_halves(text[: end.start()]), text[end.end() :])


def _halves(text: str) -> tuple[str, str]:
    """What happened and what it means, of a message without its remedy."""
    end = next(
        (match for match in _ENDS.finditer(text) if match[0] in ("; ", ". ") and _is_outside(text, match.start())), None
    )
    return (text[: end.start()], text[end.end() :]) if end else (text, "")


def _is_remedy(text: str) -> bool:
    first = re.split(r"[^A-Za-z]", text, maxsplit=1)[0]
    return text.startswith("lvjobs ") or (first[:1].lower() + first[1:]) in VERBS


def _is_outside(text: str, position: int) -> bool:
    """Whether the position is in no brackets and no quotation."""
    before = text[:position]
    return (
        not before.count('"') % 2
        and not before.count("`") % 2
        and all(before.count(opening) <= before.count(closing) for opening, closing in ("()", "[]", "{}"))
    )


# -- the page -------------------------------------------------------------------------------------------------------


def page(scan: Scan) -> str:
    """docs/errors.md."""
    rows = rows_of(scan)
    defaults = list(dict.fromkeys(row.default for row in rows))
    said = [
        f"| *{each.words}* | {each.exit} | {each.meaning} | {_cell(each.remedy) or 'as the message says'} |"
        for each in defaults
    ]
    lines = [
        _HEAD.format(count=len(rows)),
        "| in a table | exit code | means | to type |\n|---|---|---|---|",
        *said,
        "",
    ]
    for section in SECTIONS:
        lines += [
            f"## {section.title}\n",
            f"{section.head}\n",
            "| what happened | what it means | what to type | exit |",
        ]
        lines += ["|---|---|---|---|", *(_line(row) for row in rows if row.section is section), ""]
    return "\n".join(lines)


_HEAD = """\
<!-- Written by `python scripts/make_errors.py`: mend the messages, never this page. -->

# Errors

All {count} of them. An error is one line, `lvjobs: ...`: what happened, what it means for the run, what to type. Below it
is in three columns. What is filled in stands there as a word in CAPITALS; of texts with a stroke between them, one is shown.
What a message leaves out, because it is true of all of its kind, stands in italics:
"""


def _line(row: Row) -> str:
    meaning = _cell(row.meaning) or f"*{row.default.words}*"
    remedy = _cell(row.remedy) or f"*{_cell(row.default.remedy)}*"
    return f"| {_cell(row.what)} | {meaning} | {remedy} | {row.default.exit} |"


def _cell(text: str) -> str:
    """Text that Markdown leaves as it is."""
    escaped = re.sub(r"[|*<\[\]]", lambda match: "&lt;" if match[0] == "<" else "\\" + match[0], text.strip())
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", escaped)
