"""A batch script that exists, read as the settings of a program."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvjobs import remedies
from lvjobs.cluster.options import _RESERVED
from lvjobs.errors import UsageError
from lvjobs.study.program.batch_options import LEFT_OUT, LETTERS, OURS
from lvjobs.study.program.batch_script import read_script
from lvjobs.study.program.command_line import split_command
from lvjobs.study.program.shell_words import commands_in
from lvjobs.study.tables import Resources

SCRIPT = r"""#!/bin/bash
#SBATCH -J tune -p ampere,long
#SBATCH --account=ME-GPU --time=12:00:00
#SBATCH --nodes=1 --ntasks 1 -c 8
#SBATCH --gres=gpu:a100:2 --mem-per-cpu=4G
#SBATCH --mail-type END   # a comment
#SBATCH --signal=B:USR1@120
#SBATCH --output=logs/%j.out -x node[1-3,7],node9
set -euo pipefail
module purge
module load cuda/12.1 gcc
source ~/venvs/tune/bin/activate
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
export TOKENIZERS_PARALLELISM=false HF_HOME="$HOME/hf"
cd $SLURM_SUBMIT_DIR/code
LR=2e-5
EXTRA="--bf16 --seed 3"
if [ ! -d data ]; then
  python prepare.py
fi
python check.py
echo start; date
WANDB_MODE=offline srun --unbuffered -n 1 torchrun --nproc_per_node=$SLURM_GPUS_ON_NODE \
   train.py --name 'two words' \
   --lr ${LR} $EXTRA > log.txt 2>&1
echo done
"""


def script(*lines):
    return "\n".join(["#!/bin/bash", *lines, ""])


def refusal(text):
    with pytest.raises(UsageError) as error:
        read_script(text)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    return str(error.value)


def test_a_whole_script_becomes_a_program_and_its_resources():
    read = read_script(SCRIPT)
    assert read.command == [
        *("torchrun", "--nproc_per_node={gpus}", "train.py", "--name", "two words"),
        *("--lr", "2e-5", "--bf16", "--seed", "3"),
    ]
    assert read.resources == {
        "partition": "ampere,long",
        "account": "ME-GPU",
        "time_limit": "12:00:00",
        "cpus": 8,
        "gpus": 2,
        "memory_mb": 32768,
        "signal_lead_seconds": 120,
        "exclude_nodes": ["node[1-3,7]", "node9"],
        "modules": ["cuda/12.1", "gcc"],
        "activate": "source ~/venvs/tune/bin/activate",
        "extra_sbatch": ["--mail-type=END"],
    }
    Resources.model_validate(read.resources)
    assert read.environment == {"OMP_NUM_THREADS": "8", "TOKENIZERS_PARALLELISM": "false", "WANDB_MODE": "offline"}
    assert read.directory == "./code"


def test_what_is_not_taken_over_is_said_with_its_line():
    notes = "\n".join(read_script(SCRIPT).notes)
    assert "line 5: the GPU type a100" in notes
    assert "sets these itself: --job-name, --nodes, --ntasks, --output" in notes
    assert "line 14: not taken over: HF_HOME: only a shell knows $HOME" in notes
    assert "lines 18-20 (if ...) were not taken over" in notes
    assert "line 21: not taken over: python check.py" in notes
    assert "line 23: left out: >log.txt 2>&1" in notes
    assert "echo" not in notes
    assert "date" not in notes


def test_lines_that_activate_an_environment_become_one():
    lines = ["ENV=/rds/env", 'eval "$(conda shell.bash hook)"', "conda activate $ENV", "source $HOME/v/bin/activate"]
    read = read_script(script(*lines, "python train.py"))
    assert read.resources == {
        "activate": 'eval "$(conda shell.bash hook)" && conda activate /rds/env && source $HOME/v/bin/activate'
    }
    Resources.model_validate(read.resources)


@pytest.mark.parametrize(
    ("option", "key", "value"),
    [
        ("-pgpu", "partition", "gpu"),
        ("--qos high", "qos", "high"),
        ("-t 90", "time_limit", "90"),
        ("--mem=8G", "memory_mb", 8192),
        ("--mem 500", "memory_mb", 500),
        ("--mem=0", "memory_mb", 0),
        ("-G 4", "gpus", 4),
        ("--gpus-per-node=a100:4", "gpus", 4),
        ("--exclusive", "extra_sbatch", ["--exclusive"]),
        ("--exclusive=user", "extra_sbatch", ["--exclusive=user"]),
        ("-C 'a100&nvlink'", "extra_sbatch", ["--constraint=a100&nvlink"]),
        ("--gres=tmpfs:10G", "extra_sbatch", ["--gres=tmpfs:10G"]),
    ],
)
def test_an_option_of_sbatch_becomes_a_key(option, key, value):
    read = read_script(script(f"#SBATCH {option}", "python train.py"))
    assert read.resources == {key: value}
    Resources.model_validate(read.resources)


@pytest.mark.parametrize("option", ["-N 2", "--nodes=2-4", "--ntasks=8", "-n4", "--ntasks-per-node=2", "--nodes=x"])
def test_several_nodes_or_tasks_are_refused(option):
    words = refusal(script("#SBATCH -p gpu", f"#SBATCH {option}", "python train.py"))
    assert words.startswith("line 3: n")
    assert "set nodes or processes under [resources], and launch under [train]" in words


@pytest.mark.parametrize("command", ["srun -n 4 python t.py", "srun --nodes=2 python t.py", "torchrun --nnodes 2 t.py"])
def test_a_command_for_several_nodes_or_tasks_is_refused(command):
    assert refusal(script(command)).startswith("line 2: n")


def test_no_option_that_lvjobs_sets_itself_is_taken_over():
    assert set(_RESERVED) <= OURS | set(LEFT_OUT)
    for name, letter in _RESERVED.items():
        assert not letter or letter in {"h", "V"} or LETTERS[letter] == name


def test_sbatch_lines_after_the_first_command_do_not_count():
    read = read_script(script("", "# words", "#SBATCH -p gpu", "date", "#SBATCH --qos=high", "python train.py"))
    assert read.resources == {"partition": "gpu"}
    assert read.notes == ["line 6 was left out: Slurm ignores #SBATCH lines after the first command"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ('python a.py --x "it\'s" \'a "b"\' c\\ d', ["python", "a.py", "--x", "it's", 'a "b"', "c d"]),
        ('python a.py "" x#y # comment', ["python", "a.py", "", "x#y"]),
        ("python a.py --json '{\"a\": 1}'", ["python", "a.py", "--json", '{"a": 1}']),
        ('python -c "print(1)\nprint(2)"', ["python", "-c", "print(1)\nprint(2)"]),
        ("exec nohup env A=b python a.py", ["python", "a.py"]),
        ("srun --mpi pmix -u --gres=gpu:1 -c 4 -- python a.py", ["python", "a.py"]),
        ("python a.py | tee log", ["python", "a.py"]),
        ("cd code && python a.py; echo done", ["python", "a.py"]),
        ("X=1; python a.py $X", ["python", "a.py", "1"]),
        ('X="a  b"; python a.py "$X" $X p$X', ["python", "a.py", "a  b", "a", "b", "pa", "b"]),
        ("python a.py '$HOME' \\$HOME", ["python", "a.py", "$HOME", "$HOME"]),
        ("if true; then date; fi\npython a.py\nif true; then date; fi", ["python", "a.py"]),
        ("f() {\n python b.py\n}\npython a.py", ["python", "a.py"]),
        ("case $X in\n a) python b.py;;\nesac\npython a.py", ["python", "a.py"]),
        ("python a.py\r\n", ["python", "a.py"]),
        ("cd code || exit 1\npython a.py || python b.py", ["python", "a.py"]),
    ],
)
def test_the_last_command_is_the_run(command, words):
    assert read_script(script(command)).command == words


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("python a.py $HOME/x", "$HOME"),
        ("python a.py ${X:-1}", "${X:-1}"),
        ("python a.py $(cat x)", "$(cat x)"),
        ("python a.py `cat x`", "`cat x`"),
        ("python a.py $((1 + 2))", "$((1 + 2))"),
        ("python a.py $1", "$1"),
        ("python a.py data/*.txt", "*"),
        ("python a.py ~/x", "~"),
        ("X=$(date); python a.py $X", "$X"),
    ],
)
def test_what_only_a_shell_knows_is_refused(command, part):
    words = refusal(script(command))
    assert words.startswith(f"line 2: the command has {part}, which only a shell knows")
    assert words.endswith(str(remedies.INIT_SCRIPT))


@pytest.mark.parametrize(
    "command", ["python a.py < x", "python a.py &", "python a.py | grep x", "python a.py | a | tee b"]
)
def test_a_command_that_needs_a_shell_is_refused(command):
    assert "which needs a shell" in refusal(script(command))


@pytest.mark.parametrize("loop", ["for i in 1 2; do\n python a.py $i\ndone", "while true; do python a.py; done"])
def test_a_loop_at_the_end_is_refused_with_its_lines(loop):
    words = refusal(script("python prepare.py", loop))
    assert words.startswith(f"lines 3-{3 + loop.count(chr(10))}: the last command is inside")


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ("cat <<EOF\nx\nEOF", "here-document"),
        ("python 'a.py", "' is not closed"),
        ('python "a.py', '" is not closed'),
        ("python $(a.py", "$( is not closed"),
        ("if true; then", "if is not closed"),
        ("#SBATCH --comment='a", "' is not closed"),
        ("#SBATCH -p $X", "$X has no value"),
        ("date", "no command that trains"),
        ("srun -n 1", "no program follows"),
    ],
)
def test_a_script_that_cannot_be_read_is_refused(lines, word):
    assert word in refusal(script(lines))


def test_nothing_in_a_script_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    read = read_script(script("eval 'touch eval'", "export A=`touch b`", "X=$(touch x)", "python a.py ';touch c'"))
    assert read.command == ["python", "a.py", ";touch c"]
    assert read.environment == {}
    assert list(tmp_path.iterdir()) == []


def test_a_long_hostile_line_is_quoted_in_part():
    (note,) = read_script(script("source " + "x" * 10_000, "python a.py")).notes
    assert len(note) < 300


@given(st.text(alphabet="ab$'\"\\`(){}<>|&;#=* \n-~1", max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text):
    with suppress(UsageError):
        list(commands_in(text))
    try:
        read_script(text)
    except UsageError as error:
        words = str(error)
    else:
        return
    assert words
    assert "\n" not in words


def test_a_command_is_one_command():
    assert split_command("python 'a b.py'  --x=1") == ["python", "a b.py", "--x=1"]
    for text in ("a; b", "a | b", "a > b", "a && b", "a &", "(a)", "", "a\nb"):
        with pytest.raises(UsageError, match="is not one command"):
            split_command(text)
    with pytest.raises(UsageError, match=r"\$HOME, which no shell fills in"):
        split_command("python a.py $HOME")
