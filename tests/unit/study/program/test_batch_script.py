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
        ("-t 90", "time_limit", "90m"),
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


OF_PYTORCH = r"""#!/bin/bash
#SBATCH --nodes=4
#SBATCH --ntasks=4
#SBATCH --gpus-per-task=2
#SBATCH --cpus-per-task=4 --mem-per-cpu=1G
nodes=( $( scontrol show hostnames $SLURM_JOB_NODELIST ) )
nodes_array=($nodes)
head_node=${nodes_array[0]}
head_node_ip=$(srun --nodes=1 --ntasks=1 -w "$head_node" hostname --ip-address)
export MASTER_ADDR=$head_node_ip MASTER_PORT=29500
srun torchrun --nnodes $SLURM_NNODES --nproc_per_node 2 --rdzv_id $RANDOM --max_restarts=3 \
  --rdzv_backend c10d --rdzv_endpoint $head_node_ip:29500 train.py 50 --rdzv_id 10
"""


def test_torchrun_on_several_nodes_is_taken_over_as_its_script():
    read = read_script(OF_PYTORCH)
    assert (read.launch, read.command) == ("torchrun", ["train.py", "50", "--rdzv_id", "10"])
    assert read.resources == {"nodes": 4, "processes": 2, "gpus": 2, "cpus": 4, "memory_mb": 4096}
    Resources.model_validate(read.resources)
    assert read.environment == {}
    notes = "\n".join(read.notes)
    assert "line 11: left out: --max_restarts 3" in notes
    assert "line 11: left out: MASTER_PORT: lvjobs sets it" in notes
    assert "MASTER_ADDR" not in notes


@pytest.mark.parametrize(
    ("options", "command", "launch", "resources"),
    [
        ("-N 2 --ntasks-per-node=4 -c 3", "srun python t.py", "process", {"nodes": 2, "processes": 4, "cpus": 12}),
        ("-N 2-2 -n 2", "srun -N 2 -n 2 python3.11 t.py", "process", {"nodes": 2, "processes": 1}),
        ("-N 1 -n 4 -c2", "srun python t.py --c $SLURM_CPUS_PER_TASK", "process", {"processes": 4, "cpus": 8}),
        ("-N 1 -n 4", "srun python t.py --world $SLURM_NTASKS", "process", {"processes": 4, "cpus": 4}),
        ("-N 2 -G 8", "srun -N $SLURM_NNODES python t.py", "process", {"nodes": 2, "processes": 1, "gpus": 4}),
        ("-N 2", "srun python t.py --num_nodes=2", "process", {"nodes": 2, "processes": 1}),
        (
            "-N 2 --gpus-per-node=4",
            "srun python -m torch.distributed.run --nnodes=2 --nproc-per-node=$SLURM_GPUS_ON_NODE -m pkg.train",
            "torchrun",
            {"nodes": 2, "gpus": 4},
        ),
    ],
)
def test_several_nodes_or_tasks_become_nodes_processes_and_launch(options, command, launch, resources):
    read = read_script(script(f"#SBATCH {options}", command))
    assert (read.launch, read.resources) == (launch, resources)
    Resources.model_validate(read.resources)
    last = command.split()[-1]
    assert read.command[-1] == {"$SLURM_CPUS_PER_TASK": "2", "$SLURM_NTASKS": "4"}.get(last, last)
    assert not {"srun", "torch.distributed.run"} & set(read.command)


@pytest.mark.parametrize(
    ("options", "command", "problem"),
    [
        ("-N 2", "python t.py", "line 3: python is not started by srun, so it runs once, not on 2 nodes"),
        ("--ntasks-per-node=2", "python t.py", "runs once, not on 1 x 2 tasks"),
        ("-N 2", "torchrun --nnodes=2 t.py", "line 3: torchrun is not started by srun"),
        ("-N 2", "srun ./solver", "line 3: srun solver on 2 nodes cannot be taken over"),
        ("-N 2", "srun accelerate launch t.py", "line 3: srun accelerate on 2 nodes"),
        ("-N 2", "srun bash -c 'python t.py'", "line 3: srun bash on 2 nodes"),
        ("--nodes=2-4", "srun python t.py", "line 2: nodes = 2-4 is no single number"),
        ("--nodes=x", "srun python t.py", "line 2: nodes = x is no single number"),
        ("-n8", "srun python t.py", "line 2: ntasks = 8: Slurm alone decides"),
        ("-N 2 -n 8", "srun python t.py", "line 2: ntasks = 8: Slurm alone decides"),
        ("-N 2 -n 5 --ntasks-per-node=2", "srun python t.py", "line 2: ntasks = 5 is not nodes x"),
        ("-N 2 --gpus=3", "srun python t.py", "line 2: 3 GPUs on 2 nodes"),
        ("-N 2", "srun -n 1 python t.py", "line 3: srun's ntasks = 1, and the job's is 2"),
        ("-N 2", "srun -n $N python t.py", "line 3: srun's ntasks = ${N}"),
        ("-N 2 --ntasks-per-node=2", "srun torchrun t.py", "line 3: srun starts torchrun 2 times on each node"),
        ("-N 2", "srun torchrun --nnodes=1:4 t.py", "line 3: torchrun's nnodes = 1:4, and the job has 2"),
        ("-N 2", "srun torchrun --nnodes=$N t.py", "line 3: torchrun's nnodes = ${N}"),
        ("-N 2", "srun torchrun --nproc_per_node=$N t.py", "line 3: torchrun's nproc_per_node = ${N} is no number"),
        ("-N 2", "srun torchrun --standalone t.py", "line 3: torchrun's option --standalone cannot be taken over"),
        ("-N 2", "srun torchrun --nnodes=2", "line 3: no script follows torchrun"),
        ("-N 2", "srun torchrun t.py --at $HEAD", "line 3: the command has $HEAD, which only a shell knows"),
        ("-N 2", "X=$(date) srun python t.py", "line 3: the command has $(date), which only a shell knows"),
        ("-N 2", "srun python t.py --num_nodes 4", "line 3: --num_nodes = 4, and the job has 2"),
        ("-p gpu", "srun -n 4 python t.py", "line 3: srun's ntasks = 4, and the job's is 1"),
        ("-p gpu", "srun --nodes=2 python t.py", "line 3: srun's nodes = 2, and the job's is 1"),
        ("-p gpu", "torchrun --nnodes 2 t.py", "line 3: --nnodes = 2, and the job has 1"),
    ],
)
def test_several_nodes_or_tasks_are_refused_where_it_is_not_clear_what_they_do(options, command, problem):
    words = refusal(script(f"#SBATCH {options}", command))
    assert words.startswith(problem) or (problem in words and words.startswith("line 3: "))
    assert "nothing was written: " in words


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
