"""The examples in the help of each command, by the command's words: pairs of a command line and its purpose."""

from collections.abc import Mapping, Sequence

EXAMPLES: Mapping[str, Sequence[tuple[str, str]]] = {
    "init": (
        ("lvjobs init", "Create a study in this directory, with the bundled forecasting task."),
        ("lvjobs init --profile csd3 --account MYPROJECT-GPU", "Create one for a Slurm cluster."),
        ('lvjobs init --command "python train.py --lr 1e-4"', "Create one for a program of your own."),
    ),
    "doctor": (
        ("lvjobs doctor", "Check this machine, the study, and Slurm."),
        ("lvjobs doctor --job --timeout 1200", "Also run a test job, and wait up to 20 minutes for it."),
        ("lvjobs doctor --bundle help.tar.gz", "Write an archive for somebody who helps."),
    ),
    "data": (
        ("lvjobs data make", "Write data.h5 with 1000 systems."),
        ("lvjobs data make small.h5 --systems 50", "Write a smaller file."),
    ),
    "data make": (
        ("lvjobs data make", "Write data.h5 with 1000 systems."),
        ("lvjobs data make small.h5 --systems 50 --seed 1", "Write a smaller file with another seed."),
    ),
    "model": (
        ("lvjobs model pull Qwen/Qwen2.5-0.5B-Instruct", "Download a model, on a machine with a network."),
        ("lvjobs model check tiny", "Check a model."),
    ),
    "model pull": (
        ("lvjobs model pull Qwen/Qwen2.5-0.5B-Instruct", "Download the study's model."),
        ("lvjobs model pull HuggingFaceTB/SmolLM2-135M --decimals 3", "Check its tokenizer with 3 decimals."),
    ),
    "model check": (
        ("lvjobs model check tiny", "Check the model that lvjobs brings."),
        ("lvjobs model check Qwen/Qwen2.5-0.5B-Instruct --json", "Print the facts of a cached model as JSON."),
    ),
    "model convert": (
        ("lvjobs model convert model.gguf converted", "Convert a GGUF file."),
        ("lvjobs model convert model.gguf converted --precision bf16", "Halve the size of the result."),
    ),
    "lab": (
        ("lvjobs lab up", "Start a private Slurm cluster on this machine."),
        ('eval "$(lvjobs lab env)" && sinfo', "Use it in this shell."),
    ),
    "lab up": (
        ("lvjobs lab up", "Start a lab with 4 nodes."),
        ("lvjobs lab up --nodes 2 --gpus 1 --accounting", "Start a smaller one, with accounting."),
    ),
    "lab down": (
        ("lvjobs lab down", "Stop the lab, and keep its queue."),
        ("lvjobs lab down --purge", "Stop it and delete its directory."),
    ),
    "lab env": (
        ('eval "$(lvjobs lab env)"', "Use the lab in this shell."),
        ('eval "$(lvjobs lab env --dir /tmp/lab)"', "Use a lab in another directory."),
    ),
    "lab preempt": (
        ("lvjobs lab preempt 12", "Preempt job 12 for a while."),
        ("lvjobs lab preempt 12 --seconds 60", "Preempt it for 60 s."),
    ),
    "lab fail": (
        ("lvjobs lab fail n1", "Let node n1 fail."),
        ("lvjobs lab fail n1 --dir /tmp/lab", "Do so in another lab."),
    ),
    "lab restore": (
        ("lvjobs lab restore n1", "Bring node n1 back."),
        ("lvjobs lab restore n1 --dir /tmp/lab", "Do so in another lab."),
    ),
    "lab freeze": (
        ("lvjobs lab freeze", "Stop slurmctld from answering."),
        ("lvjobs lab freeze --dir /tmp/lab", "Do so in another lab."),
    ),
    "lab thaw": (
        ("lvjobs lab thaw", "Let slurmctld answer again."),
        ("lvjobs lab thaw --dir /tmp/lab", "Do so in another lab."),
    ),
    "lab status": (
        ("lvjobs lab status", "Show the lab's daemons, nodes and jobs."),
        ("lvjobs lab status --json", "Print the same as JSON."),
    ),
    "completion": (
        ("lvjobs completion bash >> ~/.bashrc", "Complete commands in bash."),
        ("lvjobs completion fish > ~/.config/fish/completions/lvjobs.fish", "Complete commands in fish."),
    ),
    "submit": (
        ("lvjobs submit train --learning-rate 1e-4", "Submit a training run."),
        ("lvjobs submit run -- python train.py", "Submit a program."),
    ),
    "submit train": (
        ("lvjobs submit train --dry-run", "Show the batch script and the cost."),
        ("lvjobs submit train --continue a3f1 --steps 20000", "Train on from a completed run."),
        ("lvjobs submit train --lora-rank 8 --learning-rate 1e-4 --time-limit 12h", "Submit with other settings."),
    ),
    "submit run": (
        ("lvjobs submit run --flops 6e9 -- python train.py --lr 1e-4", "Submit a program and its arguments."),
        ("lvjobs submit run package.module:function --set width=64", "Submit a function of your own."),
    ),
    "sweep": (
        ("lvjobs sweep all", "Submit all stages of study.toml, in dependency order."),
        ("lvjobs sweep stage1 --time-limit 6h --gpus 1", "Submit one stage, with other resources."),
        ("lvjobs plan", "Show what the stages cost."),
    ),
    "sweep plan": (
        ("lvjobs sweep plan", "Show what lvjobs plan shows."),
        ("lvjobs sweep plan stage1 --steps 500", "Show the cost of one stage with 500 steps."),
    ),
    "sweep show": (
        ("lvjobs sweep show stage1", "Show the runs of a stage, best first."),
        ("lvjobs sweep show stage1 --json", "Print the same as JSON."),
    ),
    "sweep retry": (
        ("lvjobs sweep retry stage1", "Resume the held runs of a stage."),
        ("lvjobs sweep retry stage1 --study ~/study", "Do so in another study."),
    ),
    "sweep stop": (
        ("lvjobs sweep stop stage1", "Pause a stage."),
        ("lvjobs sweep stop all", "Pause all stages."),
    ),
    "resume": (
        ("lvjobs resume", "Update the study, and submit what is due."),
        ("lvjobs resume a3f1 --time-limit 12h --memory-mb 16G", "Resume a held run with other resources."),
    ),
    "cancel": (
        ("lvjobs cancel a3f1", "Cancel the run whose name ends with a3f1."),
        ("lvjobs cancel a3f1 b2c4", "Cancel two runs."),
    ),
    "retry": (
        ("lvjobs retry a3f1", "Submit a cancelled run again."),
        ("lvjobs retry a3f1 --time-limit 24h --memory-mb 32G", "Submit it again with other resources."),
    ),
    "watch": (
        ("lvjobs watch", "Update every 30 s, until every run is finished."),
        ("lvjobs watch --every 120", "Update every 2 minutes."),
    ),
    "driver": (
        ("lvjobs driver status", "Show who updates the study."),
        ("lvjobs driver install --every 10", "Update it every 10 minutes from crontab."),
    ),
    "driver status": (
        ("lvjobs driver status", "Show who updates the study."),
        ("lvjobs driver status --json", "Print the same as JSON."),
    ),
    "driver start": (
        ("lvjobs driver start", "Start the driver."),
        ("lvjobs driver start --study ~/study", "Start that of another study."),
    ),
    "driver stop": (
        ("lvjobs driver stop", "Stop the driver."),
        ("lvjobs driver stop --study ~/study", "Stop that of another study."),
    ),
    "driver run": (
        ("lvjobs driver run", "Do one turn of the driver's work here."),
        ("lvjobs driver run --study ~/study", "Do so for another study."),
    ),
    "driver install": (
        ("lvjobs driver install --every 10", "Update the study every 10 minutes from crontab."),
        ("lvjobs driver install --scrontab", "Use Slurm's own crontab."),
    ),
    "driver uninstall": (
        ("lvjobs driver uninstall", "Remove the study from crontab and scrontab."),
        ("lvjobs driver uninstall --study ~/study", "Remove another study."),
    ),
    "rehearse": (
        ("lvjobs rehearse", "Test the task of study.toml for 10 minutes."),
        ("lvjobs rehearse --minutes 3 -- python train.py", "Test a program for 3 minutes."),
    ),
    "status": (
        ("lvjobs status", "Update, and show all runs."),
        ("lvjobs status a3f1", "Show the history of one run."),
        ("lvjobs status stage1 --sort validation", "Show the runs of a stage, the lowest validation loss first."),
        ("lvjobs status --state held --state running -o wide", "Show all columns of these runs."),
        ("lvjobs status -w --every 30", "Refresh the screen every 30 s."),
    ),
    "top": (
        ("lvjobs top", "Show all runs; press w to explain one, l for its log, q to quit."),
        ("lvjobs top --every 60", "Update it once a minute."),
    ),
    "show": (
        ("lvjobs show a3f1", "Show everything about the run whose name ends with a3f1."),
        ("lvjobs show a3f1 --json", "Print the same as JSON."),
    ),
    "why": (
        ("lvjobs why a3f1", "Explain the state of the run whose name ends with a3f1."),
        ("lvjobs why 28_0", "Explain the run of job 28_0."),
    ),
    "logs": (
        ("lvjobs logs a3f1 -f", "Follow a run's log."),
        ("lvjobs logs a3f1 -n 500", "Show its last 500 lines."),
        ("lvjobs logs a3f1 --attempt 1", "Show the log of its first attempt."),
    ),
    "queue": (
        ("lvjobs queue", "Show the jobs that wait, and their expected starts."),
        ("lvjobs queue a3f1", "Show what would start one run sooner."),
    ),
    "plan": (
        ("lvjobs plan", "Show whether all stages fit the budget, and their cost."),
        ("lvjobs plan --apply 1", "Change study.toml to the first plan that fits."),
        ("lvjobs plan train --steps 10000 --flops-per-second 5e13", "Show the cost and time of one run."),
    ),
    "estimate": (
        ("lvjobs estimate", "Show what lvjobs plan shows."),
        ("lvjobs estimate train --steps 10000", "Show the cost of one run."),
    ),
    "budget": (
        ("lvjobs budget", "Show the FLOPs spent, reserved and free."),
        ('lvjobs budget set 2e17 --because "second seed"', "Raise the limit to 2e17 FLOPs."),
    ),
    "budget set": (
        ('lvjobs budget set 2e17 --because "second seed"', "Set the limit to 2e17 FLOPs."),
        ('lvjobs budget set --gpu-hours 500 --because "new grant"', "Set the limit to 500 GPU-hours."),
    ),
    "flops": (
        ("lvjobs flops", "Show the FLOPs of a step of the default settings."),
        ("lvjobs flops --model qwen2.5-0.5b --context-length 768 --lora-rank 8", "Show those of other settings."),
    ),
    "evaluate": (
        ("lvjobs evaluate a3f1", "Evaluate a run on all held-out series."),
        ("lvjobs evaluate --zero-shot instruct --series 50", "Evaluate the base model on 50 series."),
    ),
    "forecast": (
        ("lvjobs forecast a3f1 --series 812", "Forecast series 812 with a run."),
        ("lvjobs forecast --zero-shot raw --series 812 --samples 20", "Draw 20 forecasts with the base model."),
    ),
    "figures": (
        ("lvjobs figures", "Draw all figures into figures/."),
        ("lvjobs figures --out paper/figures", "Draw them into another directory."),
    ),
    "report": (
        ("lvjobs report", "Write report/index.html."),
        ("lvjobs report --out shared/report", "Write it into another directory."),
    ),
    "pull": (
        ("lvjobs pull", "Copy the results of the study of [remote] into this directory."),
        ("lvjobs --host me@login pull results --study ~/study", "Copy those of another study into results/."),
    ),
    "export": (
        ("lvjobs export out", "Write tables and metrics into out/."),
        ("lvjobs export out --to csv", "Write only CSV."),
    ),
    "ledger": (
        ("lvjobs ledger check", "Compare runs.db with the run directories."),
        ("lvjobs ledger backup", "Copy runs.db."),
    ),
    "ledger check": (
        ("lvjobs ledger check", "Compare runs.db with the run directories."),
        ("lvjobs ledger check --json", "Print the findings as JSON."),
    ),
    "ledger backup": (
        ("lvjobs ledger backup", "Copy runs.db to a file beside it."),
        ("lvjobs ledger backup ~/backups/runs.db", "Copy it to another place."),
    ),
    "ledger rebuild": (
        ("lvjobs ledger rebuild", "Rebuild a lost runs.db."),
        ("lvjobs ledger rebuild --aside", "Rename a damaged runs.db, and rebuild it."),
    ),
    "ledger export": (
        ("lvjobs ledger export --table runs --format csv", "Print the runs as CSV."),
        ("lvjobs ledger export out", "Write all tables into out/."),
    ),
    "study": (
        ("lvjobs study moved", "Record that the study was moved here."),
        ("lvjobs study copied", "Record that this is a copy."),
    ),
    "study moved": (
        ("lvjobs study moved", "Record that the study was moved here."),
        ("lvjobs study moved --study ~/study", "Record it for another study."),
    ),
    "study copied": (
        ("lvjobs study copied", "Record that this is a copy."),
        ("lvjobs study copied --study ~/study", "Record it for another study."),
    ),
    "archive": (
        ("lvjobs archive stage1", "Pack the runs of a stage, each into one file."),
        ("lvjobs archive --unpack a3f1", "Unpack a run again."),
    ),
    "tag": (
        ("lvjobs tag baseline a3f1 b2c4", "Give two runs the tag baseline."),
        ("lvjobs tag --remove baseline a3f1", "Remove it from one of them."),
        ("lvjobs tag", "List the tags."),
    ),
    "note": (
        ('lvjobs note a3f1 "loss spike at step 900"', "Add a note to a run."),
        ('lvjobs note stage1-r4-a3f1 "use this one" --study ~/study', "Add one in another study."),
    ),
    "log": (
        ("lvjobs log --step 10 loss=0.5 accuracy=0.9", "Report a step of a program that a run executes."),
        ("lvjobs log --step 10 --validation loss=0.6", "Report a validation."),
    ),
}
