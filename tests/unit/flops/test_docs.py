"""The tables of docs/flops.md, and that of the published figures in docs/science.md, are what the code gives."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest

from lvjobs.flops.architecture import architecture_of
from lvjobs.flops.conventions import BINDING, CONVENTIONS
from lvjobs.flops.published import published as printed
from lvjobs.flops.workload import PARTS, Workload
from lvjobs.study.tables import Budget

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "flops.md"
QWEN = architecture_of("qwen2.5-0.5b")


def short(flops):
    return f"{flops:.3e}".replace("+", "")


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("| --- ", "|---").replace("|--- |", "|---|")


def figures():
    rows = []
    for name in BINDING:

        def step(length, rank, name=name):
            return CONVENTIONS[name].count(Workload(QWEN, 4, length, rank)).step

        stages = [
            5000 * step(512, 4),
            sum(1500 * step(512, rank) for rank in (2, 4, 8)),
            sum(500 * step(length, 8) for length in (128, 512, 768)),
            10_000 * step(768, 8),
        ]
        rows.append([f"`{name}`", f"{step(512, 4):,}", *map(short, stages), short(sum(stages))])
    return table(["convention", "step, 512, r 4", "base", "stage 1", "stage 2", "final", "total"], rows)


def parts():
    columns = [asdict(CONVENTIONS[name].count(Workload(QWEN, 4, 512, 4))) for name in BINDING]
    rows = [[f"`{part}`", *(f"{counts[part]:,}" for counts in columns)] for part in PARTS if part != "generation"]
    return table(["FLOPs", *(f"`{name}`" for name in BINDING)], rows)


def generation():
    rows = []
    for prompt, new in ((800, 200), (960, 240)):
        for kv_cache in (True, False):
            workload = Workload(QWEN, 1, 16, prompt_tokens=prompt, new_tokens=new, kv_cache=kv_cache)
            flops = [short(CONVENTIONS[name].count(workload).generation) for name in BINDING]
            rows.append([f"{prompt} + {new}", "yes" if kv_cache else "no", *flops])
    return table(["tokens", "KV cache", *(f"`{name}`" for name in BINDING)], rows)


def published():
    found = printed()
    tables = {"Table 1": found.table_1, "Table 4": found.table_4, "elsewhere": found.elsewhere}
    rows = []
    for title, figures in tables.items():
        style = short if title == "Table 4" else "{:,}".format
        for each in figures:
            columns = ["none" if flops is None else style(flops) for flops in (each.formula, each.official)]
            why = [f"printed: {each.why}"] * bool(each.why) + [f"rules: {each.difference}"] * bool(each.difference)
            rows.append([f"{title}: {each.name}", each.printed or "-", *columns, "; ".join(why)])
    return table(["figure", "printed", "its formula", "official rules", "why they differ"], rows)


@pytest.mark.parametrize(
    ("page", "made"),
    [("flops", figures), ("flops", parts), ("flops", generation), ("science", published)],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_a_table_is_what_the_code_gives(page, made):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- {made.__name__} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert found[1].strip() == made()


def test_what_the_page_says_of_the_published_figures_follows_from_them():
    text = (DOCS / "science.md").read_text(encoding="utf-8")
    step = next(each for each in printed().table_1 if each.name == "LoRA step")
    assert f"is {step.official / step.formula:.2f} times the printed one" in text
    *_, final, total = printed().table_4
    assert total.official > final.official > 1e17 > 2 * float(total.printed), "By the rules the trainings cost more"
    without = [each.name for each in (*printed().table_1, *printed().table_4) if each.why]
    assert [name.partition(":")[0] for name in without] == ["stage 1", "total"], "Two printed sums do not follow"


def test_the_error_of_the_mean_is_that_of_the_results():
    text = (DOCS / "science.md").read_text(encoding="utf-8")
    scores = text.partition("### The last 200 systems")[2]
    value, low, high = re.search(r"^\| mean +\| +(\S+) \[(\S+), (\S+)\] \|", scores, re.MULTILINE).groups()
    assert f"{value}, 95 % {low} to {high}" in text
    assert float(value) < float(high) < 0.66


def test_every_convention_and_every_part_is_on_the_page():
    text = PAGE.read_text()
    for word in (*CONVENTIONS, *PARTS):
        assert f"`{word}`" in text, word
    assert Budget().convention == "official"
    assert "**`official` counts**" in text
