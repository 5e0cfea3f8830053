"""The study behind docs/science.md: run its parts, record their scores, and write the page's results.

    python benchmarks/science.py run DIR --data FILE [--split last200|random|k-fold] [--smoke]
    python benchmarks/science.py record DIR
    python benchmarks/science.py page

`run` makes a study of each split, DIR/SPLIT, from benchmarks/science/study.toml. It prints and types lvjobs commands:
train three seeds, evaluate the base model and the trained runs. Two jobs run at a time, one thread each. Stop it with
Ctrl-C at any time, and type it again to continue; each split may run on another day or machine. `record` writes
benchmarks/science/results.json and the figures, from the splits below DIR that are complete; others stay as they are.
`page` writes docs/science.md from results.json; a test compares them. `--smoke` trains four steps and forecasts few
series, to show that all works.

A study has one split, because lvjobs compares models in pairs on one set of series in each study.
"""

import argparse
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tabulate import tabulate

from lvjobs.forecasting.baselines import row_name
from lvjobs.forecasting.comparison import FEWEST, gathered, intervals
from lvjobs.forecasting.splits import make_split
from lvjobs.report.numbers import p_value, short, signed

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "benchmarks" / "science" / "study.toml"
RESULTS = ROOT / "benchmarks" / "science" / "results.json"
PAGE = ROOT / "docs" / "science.md"
IMAGES = ROOT / "docs" / "images"

DECODING: list[str] = []
"""The options of `lvjobs evaluate` that decide how forecasts are decoded. Without any: greedy."""
SMOKE_TRAINING = ["--steps", "4", "--checkpoint-every", "2", "--set", "warmup_steps=1"]
SMOKE_DECODING = ["--series", "4", "--samples", "2", "--temperature", "0.5"]
SEEDS = 3
TITLES = {
    "last200": "The last 200 systems",
    "random": "A random fifth",
    "k-fold": "All systems, in five folds",
}
MEASURES = {"mae": "MAE", "mse": "MSE", "median": "median MAE"}
"""The measures of the paired comparisons, as the page names them."""


def lvjobs(*words: str, capture: bool = False) -> str:
    """Type a command of lvjobs, and return what it printed if `capture`. A command that fails ends the script."""
    print(f"$ lvjobs {shlex.join(words)}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "lvjobs", *words]
    output = subprocess.PIPE if capture else None
    done = subprocess.run(command, stdout=output, text=True, encoding="utf-8", check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout or ""


# -- run --------------------------------------------------------------------------------------------------------------


def run(directory: Path, data: Path, split: str, *, smoke: bool) -> None:
    """Train and evaluate one split; what is done already is not done again."""
    if not data.is_file():
        raise SystemExit(f"{data} is no file: --data names the study's HDF5 file")
    root = directory / split
    root.mkdir(parents=True, exist_ok=True)
    toml, link = root / "study.toml", root / "data.h5"
    if not toml.exists():
        shutil.copyfile(STUDY, toml)
    if toml.read_bytes() != STUDY.read_bytes():
        raise SystemExit(f"{toml} is not {STUDY.name} of this checkout: continue with that one, or name another DIR")
    if not link.exists():
        link.symlink_to(data.resolve())
    study = ["--study", str(root)]
    lvjobs("sweep", split, *study, *(SMOKE_TRAINING if smoke else []), "--wait")
    decoding = SMOKE_DECODING if smoke else DECODING
    lvjobs("evaluate", "--zero-shot", "raw", "--set", f"split={split}", *study, *decoding, "--wait")
    found = json.loads(lvjobs("status", "--json", "--no-pass", *study, capture=True))["runs"]
    lvjobs("evaluate", *(each["name"] for each in found if each["stage"] == split), *study, *decoding, "--wait")


# -- record -----------------------------------------------------------------------------------------------------------


def record(directory: Path) -> None:
    """Write the scores of each complete split below the directory, and its figure; other splits stay as recorded."""
    known = recorded_so_far()
    for split in TITLES:
        root = directory / split
        if not (root / "runs.db").exists():
            print(f"{split}: not in {directory}")
            continue
        try:
            printed = lvjobs("evaluate", "--table", "--json", "--study", str(root), capture=True)
        except SystemExit:  # lvjobs said why: nothing is evaluated yet
            print(f"{split}: not recorded")
            continue
        found = recorded(split, json.loads(printed)["tables"])
        if isinstance(found, str):
            print(f"{split}: not recorded: {found}")
            continue
        data_sha256 = hashlib.sha256((root / "data.h5").read_bytes()).hexdigest()
        known[split] = {**found, "intervals": over_seeds(root, f"science-{split}"), "data_sha256": data_sha256}
    results = {split: known[split] for split in TITLES if split in known}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def recorded_so_far() -> dict[str, Any]:
    """Return the recorded results by split."""
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return results


def recorded(split: str, tables: Sequence[Mapping[str, Any]]) -> dict[str, Any] | str:
    """Return what the page needs of a study's tables, or the reason why the split is not complete."""
    table = next((each for each in tables if each["title"].startswith("Table 3")), None)
    pairs = next((each for each in tables if each["title"] == "Paired comparisons"), None)
    if table is None or pairs is None:
        return "nothing trained was evaluated"
    keys = ("name", "kind", "mae", "mse", "median_mae")
    rows = [{key: row[key] for key in keys} for row in table["rows"]]
    trained = [row["name"] for row in rows if row["kind"] in ("run", "final")]
    if len(trained) != SEEDS or (split == "k-fold" and not all(name.endswith("(5 folds)") for name in trained)):
        return f"{len(trained)} of {SEEDS} seeds are evaluated: {', '.join(trained)}"
    if not any(row["kind"] == "zero-shot" for row in rows):
        return "the base model is not evaluated"
    missing = [note for note in table["notes"] if re.match(r"[a-z0-9-]+: ", note)]  # baselines that could not be made
    return {"circumstances": table["circumstances"], "rows": rows, "missing": missing, "pairs": pairs["rows"]}


def over_seeds(root: Path, stem: str) -> dict[str, tuple[float, float]]:
    """Return the intervals of LoRA's measures, over series and seeds; write the report's chart of all models as SVG."""
    from lvjobs.api.evaluate import done_evaluations, seen_runs
    from lvjobs.api.material import read_material, stages_of
    from lvjobs.report.chosen import choose
    from lvjobs.report.figures.draw import figure_of, style
    from lvjobs.report.figures.forecasts import scores
    from lvjobs.study.config import load_study

    study = load_study(root)
    material = read_material(study, seen_runs(study), done_evaluations(study), stages_of(study))
    choices = choose(material)
    with style():
        figure_of(scores(choices)).savefig(IMAGES / f"{stem}.svg", metadata={"Date": None})
    return dict(intervals(gathered([material.errors(each) for each in choices.chosen.runs])))


# -- page -------------------------------------------------------------------------------------------------------------

METHOD = """
## The bundled model, fine-tuned

`tiny` ([what it is](tiny.md)) is fine-tuned with LoRA by one recipe, `lvjobs.study.presets.TINY_TRAINING`, computed in
bf16, with three training seeds on each [split](training.md#other-splits) below. Zero-shot has the same settings: it
reads square roots in bf16, too. It was not scored without roots here; in [one trial](tiny.md#how-the-recipe-was-chosen)
of 160 systems roots lowered its MAE and raised its MSE, so without roots the gain may be another. The weights
are those of the last step; no checkpoint was selected. (Losses on four scored systems were computed on the way, and not
used.)

Some choices were made on systems that are scored here. Rank, steps, square roots, greedy decoding and the second part
of the pretraining were chosen on the first 800 systems alone ([how](tiny.md#how-the-recipe-was-chosen)). The first part
of the pretraining, the learning rate, the warm-up and the adapted layers are older. Earlier versions of `tiny` were
scored on the last 200 systems: the first part replaced weights that had higher errors there, and adapters on all linear
layers had lower errors there than adapters on two of them. So the errors of LoRA and of zero-shot may be too low on
every split; by how much was not measured. The baselines choose their settings on training systems. Whether their
methods were chosen on scored ones is not on record.

* An interval is a 95 % percentile bootstrap over the n series of its table, for each row by itself and not corrected.
  So it may exclude 0 where p is above .05. It says nothing about other data than those of this file. Single rows have
  2,000 resamples, differences and the mean of the seeds 10,000. A few series carry much of a mean, so intervals hold
  the truth less often than they say: in a simulation of n = 80 such series, 95 % intervals have to hold it in .89 of
  the cases (MAE), .86 (MSE), .93 (median MAE), or lvjobs' own tests fail.
* A difference is the mean of the seeds' errors less the other's error, on the same n series: negative is better. Its
  interval draws series and seeds; [few seeds widen it](evaluate.md#comparisons). So does the interval of the mean of
  the seeds. Skill is 1 - error / the other's error.
* p is two-sided, by the same resamples, and where none lies beyond 0 by a normal distribution, at most 2/10,000. It is
  corrected by Holm's procedure for all tests of a split: three measures of each row of its second table. Below .05 a
  difference counts as shown. Where none is shown, the two are not shown to be equal either. Splits are not corrected
  for one another, and share systems, so they are no independent repeats.
* p (rank) is Wilcoxon's signed-rank test of the MAE by series, seeds averaged, not corrected; no verdict rests on it.
  It asks which of the two is lower on a typical series, as `lower MAE on` counts it, where the mean asks about all of
  the error. A few hard series can make the mean lower where most series are higher: beside `var-tuned` they do.
* The median MAE is the median over series; its difference is one of two medians. All errors are in the file's units.
  `ode` is given the law behind the data, and stands apart.

Do it again: `python benchmarks/science.py run DIR --data FILE`, then `record DIR` and `page`. The file is the course's,
and is not part of lvjobs.
"""
SYSTEMS, RECIPE_SYSTEMS = 1000, 800
"""The systems of the file, and those at its start on which the recipe was chosen."""
FOLDS = (
    "Each seed scores each system once, by a run that never saw it. Runs share most of their training systems, and "
    "systems of one fold share a run. Intervals and p [leave that out](evaluate.md#which-series) and may be too small."
)
_WORDS = {
    "lower": "a lower error than",
    "higher": "a higher error than",
    "unclear": "not shown to differ from",
    "untested": "not tested beside",
}


def scored_before(split: str) -> str:
    """Return where a split's scored series lie: different choices were made on the file's two parts."""
    if split == "last200":
        return "Rank, steps, square roots and the second part of the pretraining were chosen on none of them."
    count = RECIPE_SYSTEMS
    if split == "random":
        count = sum(system < RECIPE_SYSTEMS for system in make_split(SYSTEMS, "random").test)
    return f"{count} of them are of the first {RECIPE_SYSTEMS} systems, the others of the last 200."


def section(split: str, found: Mapping[str, Any]) -> str:
    """Return the page's section of a split."""
    pairs = found["pairs"]
    bootstrap = f"In brackets: 95 % percentile bootstrap over n = {pairs[0]['series']} series"
    of_seeds = (
        f"The mean and the standard deviation (s.d.) are over n = {SEEDS} training seeds; the mean's interval is over "
        "series and seeds."
    )
    parts = [
        f"### {TITLES[split]}",
        f"{found['circumstances']}. {scored_before(split)}" + (f" {FOLDS}" if split == "k-fold" else ""),
        f"![MAE of the models and of all baselines](images/science-{split}.svg)",
        scores_table(found["rows"], found["intervals"]),
        f"{bootstrap}. {of_seeds} The picture has seed 0.",
        *found["missing"],
        pairs_table(pairs),
        f"{bootstrap} and {pairs[0]['seeds']} seeds. p: corrected for {len(MEASURES) * len(pairs)} tests.",
        *(verdicts(pairs, measure) for measure in MEASURES),
    ]
    return "\n\n".join(parts)


def scores_table(rows: Sequence[Mapping[str, Any]], of_mean: Mapping[str, Sequence[float]]) -> str:
    """Return each seed's, the base model's and the baselines' errors; and the mean and s.d. over seeds."""
    columns = ("mae", "mse", "median_mae")
    trained = [row for row in rows if row["kind"] in ("run", "final")]
    values = [[float(row[column]["value"]) for row in trained] for column in columns]
    means = [
        f"{short(fmean(each))} [{short(low)}, {short(high)}]"
        for each, (low, high) in zip(values, (of_mean[name] for name in MEASURES), strict=True)
    ]
    lines = [
        [f"LoRA, mean of {len(trained)} seeds", *means],
        ["LoRA, s.d. over seeds", *(short(stdev(each)) for each in values)],
        *([f"LoRA, seed {seed}", *cells(row, columns)] for seed, row in enumerate(trained)),
    ]
    lines += [[named(row["name"]), *cells(row, columns)] for row in rows if row not in trained]
    return as_markdown(["", "MAE", "MSE", "median MAE"], lines)


def named(name: str) -> str:
    """Return a row's name without its number of folds; one that knows the law says so."""
    return row_name(name.partition(" (")[0])


def cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """Return the errors of a row with their intervals."""
    found = (row[column] for column in columns)
    return [f"{short(each['value'])} [{short(each['low'])}, {short(each['high'])}]" for each in found]


def pairs_table(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Return the paired comparisons of the trained model with the base model and each baseline."""
    lines = []
    for pair in pairs:
        line = [named(pair["other"])]
        is_tested = pair["series"] >= FEWEST
        for measure in MEASURES:
            found = pair[measure]
            ends = f" [{signed(found['low'])}, {signed(found['high'])}]" if is_tested else ""
            skill = [signed(found["skill"])] if measure != "median" else []
            line += [f"{signed(found['difference'])}{ends}", *skill, p_value(found["p_corrected"]) if is_tested else ""]
        lines.append([*line, f"{pair['lower_on']} of {pair['series']}", p_value(pair["p_rank"]) if is_tested else ""])
    heads = [f"{MEASURES['mae']} difference", "skill", "p", f"{MEASURES['mse']} difference", "skill", "p"]
    heads += [f"{MEASURES['median']} difference", "p", "lower MAE on", "p (rank)"]
    return as_markdown(["LoRA beside", *heads], lines)


def verdicts(pairs: Sequence[Mapping[str, Any]], measure: str) -> str:
    """Return the outcome of a measure's tests in words: what the model is shown to be better and worse than."""
    by = {word: [named(each["other"]) for each in pairs if each[measure]["verdict"] == word] for word in _WORDS}
    found = "; ".join(f"{_WORDS[word]} {', '.join(names)}" for word, names in by.items() if names)
    return f"LoRA by {MEASURES[measure]}: {found}."


def as_markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; its first column is of words."""
    aligned = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=aligned)


def with_results(page: str, results: Mapping[str, Any]) -> str:
    """Return the page with these results, or without any."""
    made = "\n\n".join([METHOD.strip(), *(section(split, found) for split, found in results.items())])
    text = f"<!-- results -->\n{made + chr(10) if results else ''}<!-- end -->"
    return re.sub(r"<!-- results -->\n.*?<!-- end -->", lambda _: text, page, flags=re.DOTALL)


def main() -> None:
    """Run, record, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "record", "page"])
    parser.add_argument("directory", nargs="?", type=Path, metavar="DIR")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split", action="append", choices=list(TITLES), help="default: all, one after another")
    parser.add_argument("--smoke", action="store_true", help="only show that it works")
    asked = parser.parse_args()
    if asked.what == "page":
        PAGE.write_text(with_results(PAGE.read_text(encoding="utf-8"), recorded_so_far()), encoding="utf-8")
        return
    if asked.directory is None or (asked.what == "run" and asked.data is None):
        parser.error("run needs DIR and --data FILE; record needs DIR")
    if asked.what == "record":
        record(asked.directory)
        return
    for split in asked.split or TITLES:
        run(asked.directory, asked.data, split, smoke=asked.smoke)


if __name__ == "__main__":
    main()
