"""Pictures of the terminal for the documentation: real commands in a real study on a private Slurm cluster.

    python tests/slurm/portraits.py docs/images

A small study in which one run is preempted, one is killed again and again, one fails, one finds no room in the queue and
one no room in the budget; then `lvjobs status` at 80, 100 and 160 columns, dark and light, and `lvjobs why` for the five.
"""

import io
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from driving import Study, kill_worker, until
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME

from lvjobs.forecasting.data import make_dataset
from lvjobs.lab import Lab, LabConfig
from lvjobs.records.summary import Summary
from lvjobs.report.terminal.run_lines import print_history, print_why
from lvjobs.report.terminal.status_lines import print_status

THEMES = {"dark": SVG_EXPORT_THEME, "light": DEFAULT_TERMINAL_THEME}
LINES = 42

STAGES = """
no_progress_deaths = 10

[evaluation]
series = 4

[[stage]]
name = "rank"
steps = 6000
set = { checkpoint_every = 250 }
grid = { lora_rank = [2, 4, 8], learning_rate = [4e-3, 1e-3] }

[[stage]]
name = "long"
from = "rank"
steps = 12000
set = { checkpoint_every = 500 }

[[stage]]
name = "table"
zero_shot = ["raw"]
evaluate = ["rank", "long"]
"""

OWN = """
import lvjobs

@lvjobs.task(flops=10**6)
def train(run):
    run.resume()
    for step in range(1, 21):
        run.log(step, loss=1 / step)
    raise FileNotFoundError("/rds/project/lotka/labels.csv: no such file")
"""


def draw(path: Path, title: str, width: int, theme: str, show) -> None:
    """Return the console output of `show` as an SVG that asks no network for a font."""
    console = Console(
        record=True,
        width=width,
        height=LINES,
        force_terminal=True,
        color_system="truecolor",
        file=io.StringIO(),
        highlight=False,
    )
    show(console)
    console.print()  # or the last line's descenders would be cut
    text = console.export_svg(title=title, theme=THEMES[theme])
    text = re.sub(r"@font-face \{.*?\}\s*", "", text, flags=re.DOTALL)
    path.write_text(
        text.replace("Fira Code, monospace", "ui-monospace, 'DejaVu Sans Mono', monospace"), encoding="utf-8"
    )


def sit(study: Study, lab: Lab) -> dict[str, dict]:
    """Let four of the five things happen; what `lvjobs why` told of each when it had."""
    toml = study.root / "study.toml"
    toml.write_text(toml.read_text() + STAGES)
    (study.root / "own.py").write_text(OWN)
    study.type("submit", "run", "own:train", "--steps", "100", "--name", "labels")
    study.type("sweep", "all")
    rank = [run["name"] for run in study.summary()["runs"] if run["stage"] == "rank"]
    killed, preempted = rank[0], rank[1]
    study.reach(preempted, 300)
    lab.preempt(study.run(preempted)["job_id"])
    until(lambda: study.run(preempted)["cause"] == "preempted" and study.run(preempted)["reason"])
    told = {"preempted": why(study, preempted)}
    for generation in (1, 2):
        kill_worker(study.reach(killed, 400, generation=generation))
        until(lambda number=generation: _deaths(study, killed) == number)
        if generation == 1:
            lab.run("scontrol", "update", f"jobid={study.run(killed)['job_id']}", "priority=4000000000")
    study.until("labels", "held")
    told |= {"code-error": why(study, "labels"), "killed": why(study, killed)}
    known = ("Priority", "Resources")
    waiting = next(
        name for name, run in study.runs().items() if run["state"] == "queued" and run["queue_reason"] in known
    )
    return told | {"waiting": why(study, waiting)}


def why(study: Study, name: str) -> dict:
    return json.loads(study.type("why", name, "--json"))


def _deaths(study: Study, name: str) -> int:
    told = json.loads(study.type("status", name, "--json"))
    return sum(moment["cause"] == "killed" for moment in told["story"])


def main() -> None:
    """Draw all of them."""
    target = Path(sys.argv[1]).absolute()
    target.mkdir(parents=True, exist_ok=True)
    scratch, lab = Path(tempfile.mkdtemp(prefix="lotka")), Lab(tempfile.mkdtemp(prefix="lvlab"))
    data = scratch / "data.h5"
    make_dataset(data, systems=40, seed=0)
    try:
        lab.up(LabConfig(nodes=2, gpus=1, accounting=True, hold=40, grace=3, kill_wait=2, message_timeout=5))
        os.environ.update(lab.environment())
        study = Study(scratch / "lotka", data, resources="gpus = 1", driver=True)
        toml = study.root / "study.toml"
        toml.write_text(toml.read_text().replace("backoff_seconds = 1", "backoff_seconds = 600"))
        told = sit(study, lab)
        summary = Summary.from_dict(json.loads(study.type("status", "--json")))
        story = json.loads(study.type("status", told["killed"]["run"]["name"], "--json"))
        study.type("budget", "set", str(1 + json.loads(study.type("budget", "--json"))["spent"]))
        held = next(run for run in study.runs().values() if run["state"] == "held" and "FLOPs" in run["reason"])
        told["budget"] = why(study, held["name"])
        for width in (80, 100, 160):
            for theme in THEMES:
                path = target / f"status-{width}-{theme}.svg"
                draw(path, "lvjobs status", width, theme, lambda console: print_status(summary, console, whole=False))
        told = json.loads(json.dumps(told).replace(str(scratch), "/rds/project"))
        for cause, answer in told.items():
            path, title = target / f"why-{cause}.svg", f"lvjobs why {answer['run']['name']}"
            draw(path, title, 100, "dark", lambda console, answer=answer: print_why(answer, console))
        title = f"lvjobs status {story['run']['name']}"
        draw(
            target / "story.svg", title, 100, "dark", lambda console: print_history(story, whole=True, console=console)
        )
        print(*sorted(path.name for path in target.glob("*.svg")))
    finally:
        lab.down(purge=True)
        shutil.rmtree(lab.directory, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
