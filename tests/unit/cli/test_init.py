"""`lvjobs init` for a program: what it guesses, what it asks, and what it leaves to be filled in."""

import sys

import click
import pytest

from lvjobs.study.config import load_study

PROGRAM_FLOPS = "FLOPs of one step: a number such as 6e9, or the parameters that train and the tokens of one step"
NANO = """
import torch
if init_from == 'resume':
    pass
torch.save(checkpoint, os.path.join(out_dir, 'ckpt.pt'))
print(f"step {iter_num}: train {losses['train']:.4f}")
print(f"iter {iter_num}: loss {lossf:.4f}, time {dt*1000:.2f}ms")
"""
NANO_COMMAND = (
    "python train.py --out_dir=out --max_iters=500 --lr_decay_iters=500 --eval_interval=50 --learning_rate=1e-3"
)
TRAINER = "from transformers import Trainer, TrainingArguments\n"
TRAINER_COMMAND = (
    "python run_clm.py --output_dir out/x --logging_dir out/x/logs --max_steps 500 --save_steps 50 --seed 3 "
    "--per_device_train_batch_size 8 --resume_from_checkpoint True --bf16"
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LVJOBS_STUDY", raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    return tmp_path


@pytest.fixture
def init(place, typed):
    """Type `lvjobs init` with a program; return [train] and the output."""

    def type_init(*words):
        code, out, err = typed("init", *words)
        assert (code, err) == (0, "")
        return load_study(place).config.train, out

    return type_init


def source(place, text, name="train.py"):
    (place / name).write_text(text)


def test_nanogpt_is_guessed_and_its_run_can_be_submitted(place, init, typed):
    source(place, NANO)
    (place / "data").mkdir()
    train, out = init("--command", NANO_COMMAND, "--flops", "1e6 x 1e3")
    assert train.command == [
        *("python", "train.py", "--out_dir={out}", "--max_iters={steps}", "--lr_decay_iters={steps}"),
        *("--eval_interval={checkpoint_every}", "--learning_rate={learning_rate}"),
    ]
    assert (train.steps, train.checkpoint_every, train.learning_rate) == (500, 50, 1e-3)
    assert (train.preset, train.checkpoint, train.resume) == ("torch-save", "{out}/ckpt.pt", ["--init_from=resume"])
    assert train.progress == [r"iter\s+(?P<step>\d+):\s+loss\s+(?P<loss>[-+.\deEnaif]+)"]
    assert train.flops.of_a_step == 6 * 10**9
    assert train.link == ["data"]
    assert "to fill in" not in out
    code, script, _ = typed("submit", "run", "--dry-run")
    assert code == 0
    assert "3.00e+12" in script or "3.00e12" in script


def test_the_trainers_options_become_placeholders(place, init):
    source(place, TRAINER, "run_clm.py")
    train, out = init("--command", TRAINER_COMMAND)
    assert train.command == [
        *("python", "run_clm.py", "--output_dir", "{out}", "--logging_dir", "{out}/logs", "--max_steps", "{steps}"),
        *("--save_steps", "{checkpoint_every}", "--seed", "{seed}", "--per_device_train_batch_size"),
        *("{per_device_train_batch_size}", "--bf16"),
    ]
    assert train.preset == "huggingface"
    assert (train.steps, train.checkpoint_every, train.seed, train.per_device_train_batch_size) == (500, 50, 3, 8)
    assert train.resume == ["--resume_from_checkpoint", "{checkpoint}"]
    assert train.checkpoint == "{out}/checkpoint-{step}"
    assert [line for line in out.splitlines() if line.startswith("to fill in: ")] == [
        f"to fill in: flops: {PROGRAM_FLOPS}"
    ]


def test_what_is_missing_stands_there_as_comments_that_load_once_they_are_live(place, init):
    init("--command", "python nothing.py")
    text = (place / "study.toml").read_text()
    for line in ('# checkpoint = "{out}/checkpoint-{step}"', "# flops = { parameters = 1.24e8, tokens = 491520 }"):
        assert line in text
    for key in ("checkpoint", "progress", "flops", "steps", "checkpoint_every", "resume", "out"):
        text = text.replace(f"# {key} = ", f"{key} = ")
    (place / "study.toml").write_text(text)
    train = load_study(place).config.train
    assert train.checkpoint == "{out}/checkpoint-{step}"
    assert train.flops.of_a_step == round(6 * 124e6 * 491520)
    assert train.progress


@pytest.mark.parametrize(
    ("command", "text", "preset"),
    [
        ("python train.py", "from trl import SFTTrainer", "huggingface"),
        ("accelerate launch train.py", TRAINER, "huggingface"),
        ("axolotl train config.yml", "", "huggingface"),
        ("llamafactory-cli train config.yml", "", "huggingface"),
        ("python train.py", "import lightning as L\nL.Trainer()", "lightning"),
        ("python train.py", "from pytorch_lightning import Trainer", "lightning"),
        ("accelerate launch train.py", "", "accelerate"),
        ("python train.py", "from accelerate import Accelerator", "accelerate"),
        ("torchrun -m torchtitan.train --job.config_file x", "", "torchtitan"),
        ("yolo train data=coco.yaml epochs=3", "", "ultralytics"),
        ("python train.py", "torch.save(model, path)", "torch-save"),
        ("python -m train", "torch.save(model, path)", "torch-save"),
        ("python train.py", "import numpy", None),
        ("./solver -n 3", "", None),
    ],
)
def test_the_library_is_guessed_from_the_source_and_the_command(place, init, command, text, preset):
    source(place, text)
    assert init("--command", command)[0].preset == preset


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("-o here", ["-o", "{out}"]),
        ("--trainer.max_steps=7", ["--trainer.max_steps={steps}"]),
        ("--max-steps 7", ["--max-steps", "{steps}"]),
        ("trainer.max_steps=7 seed=1", ["trainer.max_steps={steps}", "seed={seed}"]),
        ("--checkpoint-every 7", ["--checkpoint-every", "{checkpoint_every}"]),
        ("--save_steps 0.5", ["--save_steps", "0.5"]),
        ("--save_steps 7 --eval_interval 3", ["--save_steps", "{checkpoint_every}", "--eval_interval", "3"]),
        ("--max_steps -1", ["--max_steps", "-1"]),
        ("--lr 1e-4 --dropout 0.1", ["--lr", "{lr}", "--dropout", "0.1"]),
        ("--lr 1 --lr 2", ["--lr", "{lr}", "--lr", "2"]),
        ("--lr --seed", ["--lr", "--seed"]),
        ("--out_dir=a --ckpt_dir=/b/c", ["--out_dir={out}", "--ckpt_dir={out}/c"]),
        ("--resume auto", ["--resume", "auto"]),
        ("--out_dir={out} --seed={seed}", ["--out_dir={out}", "--seed={seed}"]),
        ("--json={name}", ["--json={{name}}"]),
        ("--seed=" + "9" * 5000, ["--seed=" + "9" * 5000]),
        ("--lr=1e999", ["--lr=1e999"]),
    ],
)
def test_options_of_a_command(init, options, found):
    assert init("--", "python", "train.py", *options.split())[0].command == ["python", "train.py", *found]


def test_a_value_is_written_without_loss(place, init):
    train, _ = init("--flops", "6123456789", "--", "python", "a.py", "--lr", "0.1234567890123", "--wd=2.0", "--seed=7")
    assert train.flops.of_a_step == 6123456789
    assert (train.lr, train.wd, type(train.wd)) == (0.1234567890123, 2.0, float)


def test_a_checkpoint_with_its_step_is_read_from_an_f_string(place, init):
    source(place, 'torch.save(m, f"{out}/model_{step:06d}.pt")\nprint(f"epoch {e} | step: {i:>5d} | loss={x:.3f}")')
    train, _ = init("--command", "python train.py")
    assert train.checkpoint == "{out}/model_{step}.pt"
    assert train.progress == [r"epoch\s+\S+\s+\|\s+step:\s+(?P<step>\d+)\s+\|\s+loss=\s*(?P<loss>[-+.\deEnaif]+)"]


@pytest.mark.parametrize("text", ["os.environ['LVJOBS_PROGRESS']", 'run(["lvjobs", "log", "--step", n])', "lvjobs log"])
def test_a_program_that_reports_its_steps_needs_no_regular_expression(place, init, text):
    source(place, text)
    assert "to fill in: progress" not in init("--command", "python train.py")[1]


def test_a_batch_script_becomes_a_study_of_any_slurm_cluster(place, init):
    source(place, TRAINER, "run_clm.py")
    (place / "job.sbatch").write_text(
        "#!/bin/bash\n#SBATCH -p gpu --gres=gpu:2 -J x --get-user-env\nmodule load cuda\nexport A='{b}'\n"
        "export B='x\x7f\u00e9\"'\ntorchrun --nproc-per-node=$SLURM_GPUS_ON_NODE run_clm.py --lr 1e-4\n"
    )
    train, out = init("--from", "job.sbatch", "--profile", "local")
    study = load_study(place).config
    assert (study.resources.partition, study.resources.gpus, study.resources.modules) == ("gpu", 2, ["cuda"])
    assert train.environment == {"A": "{{b}}", "B": 'x\x7f\u00e9"'}
    assert train.command == ["torchrun", "--nproc-per-node={gpus}", "run_clm.py", "--lr", "{lr}"]
    assert "sets these itself: --job-name, --get-user-env" in out


def test_a_batch_script_for_several_nodes_becomes_nodes_processes_and_launch(place, init):
    source(place, TRAINER, "run_clm.py")
    (place / "job.sbatch").write_text(
        "#SBATCH -N 2 --gpus-per-node=4\nhead=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)\n"
        "srun torchrun --nnodes=2 --nproc_per_node=4 --rdzv_endpoint=$head:29500 run_clm.py --output_dir x --lr 1e-4\n"
    )
    train, out = init("--from", "job.sbatch", "--profile", "local")
    resources = load_study(place).config.resources
    assert (resources.nodes, resources.processes, resources.gpus) == (2, 4, 4)
    assert (train.launch, train.preset) == ("torchrun", "huggingface")
    assert train.command == ["run_clm.py", "--output_dir", "{out}", "--lr", "{lr}"]
    assert 'launch = "torchrun": srun starts it on 2 nodes' in out


@pytest.mark.parametrize(("gpus", "value"), [("4", "{gpus}"), ("2", "4")])
def test_as_many_processes_as_gpus_become_a_placeholder(place, init, gpus, value):
    (place / "job.sbatch").write_text(f"#SBATCH --gpus={gpus}\naccelerate launch --num_processes 4 a.py\n")
    train, _ = init("--from", "job.sbatch", "--profile", "local")
    assert train.command == ["accelerate", "launch", "--num_processes", value, "a.py"]


def test_a_batch_script_gets_the_profile_of_any_cluster(place, typed):
    (place / "job.sbatch").write_text("#SBATCH -p gpu\npython a.py\n")
    code, out, _ = typed("init", "--from", "job.sbatch")
    assert code == 0
    assert load_study(place).config.profile == "generic"
    assert 'guessed: profile = "generic"' in out


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("cat <<E\nE\npython a.py", "job.sbatch: line 1: a here-document"),
        ("python 'a.py", "job.sbatch: line 1: ' is not closed"),
        ("#SBATCH -N 2\npython a.py", "job.sbatch: line 2: python is not started by srun"),
        ("python $A", 'lvjobs init --command "bash job.sbatch"'),
        ("#SBATCH -t UNLIMITED\npython a.py", "'UNLIMITED' is not a time limit"),
        ("python \0a.py", "cannot be read as text"),
        (None, "cannot be read as text"),
    ],
)
def test_a_batch_script_that_cannot_be_used_is_one_line_and_nothing_is_written(place, typed, text, part):
    if text is not None:
        (place / "job.sbatch").write_text(text)
    code, _, err = typed("init", "--from", "job.sbatch", "--profile", "local")
    assert (code, err.count("\n")) == (2, 1)
    assert part in err
    assert not (place / "study.toml").exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--command", "python 'a"], "' is not closed"),
        (["--command", "a | b"], "is not one command"),
        (["--command", ""], "is not one command"),
        (["--"], "no program is given"),
        (["--command", "a", "--", "b"], "named twice"),
        (["--flops", "1e6"], "--flops is for programs"),
        (["--preset", "huggingface"], "--preset is for programs"),
        (["--preset", "published", "--command", "a"], "--preset published is for the bundled forecasting"),
        (["--flops", "many", "--command", "a"], "flops 'many' is no number"),
        (["--checkpoint", "/tmp/x", "--command", "a"], "is outside of {out}"),
        (["--progress", "(", "--command", "a"], "is not a regular expression"),
        (["--command", "a {checkpoint}"], "move it to resume"),
        (["--", "a", "\udcff"], "is not UTF-8"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_nothing_is_written(place, typed, words, part):
    code, _, err = typed("init", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert part in err
    assert not (place / "study.toml").exists()


def test_a_study_that_exists_is_kept(place, typed):
    (place / "study.toml").write_text("")
    assert typed("init", "--command", "python a.py")[0] == 2
    assert (place / "study.toml").read_text() == ""
    assert typed("init", "--command", "python a.py", "--force")[0] == 0


def test_at_a_terminal_it_asks_for_what_it_cannot_guess(place, typed, monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    answers = iter(["/outside", "{out}/c.pt", "later", "lots", "124e6 x 491520"])
    asked = []
    monkeypatch.setattr(click.termui, "visible_prompt_func", lambda text: (asked.append(text), next(answers))[1])
    code, out, _ = typed("init", "--command", "python a.py --max_steps 5 --save_steps 1 --out_dir x")
    assert code == 0
    assert [text.split(",")[0].split(" [")[0] for text in asked] == [
        *["Its checkpoint"] * 2,
        "Regular expression of the lines that it prints",
        *["FLOPs of one step"] * 2,
    ]
    train = load_study(place).config.train
    assert (train.checkpoint, train.progress) == ("{out}/c.pt", [])
    assert train.flops.of_a_step == round(6 * 124e6 * 491520)
    assert "is outside of {out}" in out
    assert "flops 'lots' is no number" in out
    assert "to fill in: progress" in out


def test_a_study_in_another_directory_copies_the_programs_directory(place, typed):
    source(place, NANO)
    assert typed("init", "--study", "study", "--command", NANO_COMMAND)[0] == 0
    train = load_study(place / "study").config.train
    assert train.directory == ".."
    assert train.checkpoint == "{out}/ckpt.pt"


def test_what_a_script_has_for_a_terminal_is_written_out(place, typed):
    (place / "job.sbatch").write_text("python a.py $'\x1b[2J'\n")
    _, _, err = typed("init", "--from", "job.sbatch", "--profile", "local")
    (place / "job.sbatch").write_text("source \x1b]0x\npython a.py\n")
    code, out, _ = typed("init", "--from", "job.sbatch", "--profile", "local")
    assert code == 0
    assert "\x1b" not in out + err
    assert r"source \x1b]0x:" in out


def test_a_secret_of_a_script_is_not_written_down(place, typed):
    (place / "job.sbatch").write_text("export HF_TOKEN=hf_0123456789 A=1 B=$HOME\npython a.py\n")
    code, out, _ = typed("init", "--from", "job.sbatch", "--profile", "local")
    assert code == 0
    assert "hf_0123456789" not in (place / "study.toml").read_text() + out
    assert "HF_TOKEN was left out" in out
    assert load_study(place).config.train.environment == {"A": "1"}


def test_a_container_is_taken_over(place, init):
    train, _ = init("--command", "heat -o out", "--flops", "1e6", "--container", "x.sif", "--engine", "apptainer")
    assert (train.container.image, train.container.engine) == ("x.sif", "apptainer")
    assert 'container = { image = "x.sif", engine = "apptainer" }' in (place / "study.toml").read_text()
