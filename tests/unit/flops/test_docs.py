"""The tables of docs/flops.md are what the code gives."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest

from lvjobs.flops.architecture import architecture_of
from lvjobs.flops.conventions import BINDING, CONVENTIONS
from lvjobs.flops.workload import PARTS, Workload
from lvjobs.study.tables import Budget

PAGE = Path(__file__).parents[3] / "docs" / "flops.md"
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


@pytest.mark.parametrize("made", [figures, parts, generation], ids=lambda made: made.__name__)
def test_a_table_is_what_the_code_gives(made):
    found = re.search(rf"<!-- {made.__name__} -->\n(.*?)<!-- end -->", PAGE.read_text(), re.DOTALL)
    assert found[1].strip() == made()


def test_every_convention_and_every_part_is_on_the_page():
    text = PAGE.read_text()
    for word in (*CONVENTIONS, *PARTS):
        assert f"`{word}`" in text, word
    assert Budget().convention == "official"
    assert "**`official` binds**" in text
