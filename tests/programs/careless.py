"""A training of the standard library that makes one of the mistakes that a rehearsal finds: `--mistake`.

forget      its random generator is not in its checkpoint, so a resumed training differs
random      its generator has no seed, so each training differs
absolute    its checkpoint holds the absolute path of its output directory, and a resumed training writes its log there
child       it leaves a process behind that survives it, with an empty environment
outside     it holds a file open that is outside of its output directory (`--outside`)
hang        it stands still once it has read its checkpoint
none        nothing of these; each step has a speed, and `times.txt` the time of its last step
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--out", required=True)
parser.add_argument("--steps", type=int, required=True)
parser.add_argument("--every", type=int, required=True)
parser.add_argument("--resume")
parser.add_argument("--mistake", default="none")
parser.add_argument("--outside", default="")
options = parser.parse_args()

chance = random.Random(None if options.mistake == "random" else 1)
step, weight, out = 0, 1.0, Path(options.out)
if options.resume:
    saved = json.loads(Path(options.resume).read_text(encoding="utf-8"))
    step, weight = saved["step"], saved["weight"]
    if options.mistake != "forget":
        state = saved["generator"]
        chance.setstate((state[0], tuple(state[1]), state[2]))
    if options.mistake == "hang":
        time.sleep(600)
    if options.mistake == "absolute":
        out = Path(saved["out"])
        out.mkdir(parents=True, exist_ok=True)
if options.mistake == "child":
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(command, env={}, start_new_session=True, **quiet)
held = Path(options.outside).open("a", encoding="utf-8") if options.outside else None  # noqa: SIM115 - held to the end
log = (out / "log.txt").open("a", encoding="utf-8")
while step < options.steps:
    begun = time.monotonic()
    time.sleep(0.05)
    step += 1
    weight = 0.9 * weight + 0.01 * chance.random()
    print(f"step {step}: loss {weight!r} speed {1 / (time.monotonic() - begun)!r}", flush=True)
    print(f"step {step} {weight!r}", file=log, flush=True)
    if step % options.every == 0 or step == options.steps:
        version, numbers, gauss = chance.getstate()
        values = {"step": step, "weight": weight, "generator": [version, numbers, gauss]}
        if options.mistake == "absolute":
            values["out"] = str(Path(options.out).absolute())
        Path(options.out, "ckpt.json").write_text(json.dumps(values), encoding="utf-8")
Path(options.out, "times.txt").write_text(f"{time.time()}\n", encoding="utf-8")
