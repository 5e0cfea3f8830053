"""The remedies for studies and runs."""

from lvjobs.remedies.remedy import Remedy

# -- the study ------------------------------------------------------------------------------------------------------

INIT = Remedy(
    "lvjobs init", "The directory holds no study.", "Writes a study.toml to begin with.", ("there is no study in",)
)
INIT_PROFILE = Remedy(
    "lvjobs init --profile {profile}",
    "The doctor found no study in the directory.",
    "Writes a study.toml with that profile.",
    ("no study in",),
)
INIT_SCRIPT = Remedy(
    'lvjobs init --command "bash SCRIPT"',
    "`lvjobs init --from` cannot determine which command of a batch script is the program.",
    "Writes a study.toml whose program is the whole script; remove srun from the script.",
    ("make the whole script the run:", "name the program:", "or begin with"),
)
INIT_ELSEWHERE = Remedy(
    "lvjobs init --study DIR",
    "The study belongs to another user.",
    "Writes a study.toml in a directory of your own.",
    ("create your own study",),
)
STATUS = Remedy(
    "lvjobs status",
    "A run's name is unknown, or the state that is shown is old.",
    "Updates the study, and shows every run.",
    ("was never updated", "in this study; type:"),
)
STATUS_RUN = Remedy(
    "lvjobs status {run}",
    "You want a run's full history.",
    "Shows its attempts, and what followed each.",
    ("full history",),
)
STATUS_ALL = Remedy(
    "lvjobs status --all",
    "The screen has no room for all runs.",
    "Shows every run.",
    ("(lvjobs status --all)",),
)
WATCH = Remedy(
    "lvjobs watch",
    "No driver can run, so nothing happens unless a command is typed.",
    "Updates the study every 30 s until every run is finished or held; keep it in tmux.",
    ("keep lvjobs watch running",),
)
STUDY_MOVED = Remedy(
    "lvjobs study moved",
    "The study is in another place than before, and lvjobs cannot see whether it was moved or copied.",
    "Records that the study moved: it keeps its jobs.",
    ("cannot see whether it was moved or copied",),
)
STUDY_COPIED = Remedy(
    "lvjobs study copied",
    "The study is in another place than before, and the original is still in use.",
    "Records that this is a copy: the jobs stay with the original.",
    ("cannot see whether it was moved or copied",),
)
DOCTOR = Remedy(
    "lvjobs doctor",
    "Slurm's controller or its accounting did not answer.",
    "Checks again, and lists what works.",
    ("wait, then type: lvjobs doctor",),
)
DOCTOR_JOB = Remedy(
    "lvjobs doctor --job",
    "Only a job can show the state of a node.",
    "Submits a test job, and shows what it found.",
    ("only a job can show",),
)
DOCTOR_PATIENT = Remedy(
    "lvjobs doctor --job --timeout {seconds}",
    "The test job did not start in time.",
    "Waits longer for it: an hour, or twice as long as before.",
    ("did not begin in time",),
)
DOCTOR_SLURM = Remedy(
    "lvjobs doctor --profile generic",
    "The profile is local, and there is a Slurm.",
    "Checks Slurm, and what jobs are allowed.",
    ("Slurm is installed but profile = local",),
)
REPORT = Remedy(
    "lvjobs report",
    "The study has results to look at.",
    "Writes the report.",
    ("curves and heatmaps", "the same study again"),
)

REMOTE_REPORT = Remedy(
    "lvjobs --host {host} report",
    "A study on a login node has nothing to copy yet.",
    "Writes its report there; `lvjobs pull` copies it.",
    ("There is nothing to copy yet",),
)

# -- runs -----------------------------------------------------------------------------------------------------------

RESUME = Remedy(
    "lvjobs resume",
    "A run waits for the next update.",
    "Updates the study: submits every run that is due. Held runs stay held.",
    ("the next update",),
)
RESUME_RUN = Remedy(
    "lvjobs resume {run}",
    "A run is held or paused, and its cause is fixed; or a disk was full or gone while its job ran.",
    "Submits the run again with the current code, profile and [resources]; it continues from its newest checkpoint.",
    (
        "type: lvjobs resume",
        "then: lvjobs resume",
        "resume: lvjobs resume",
        "to continue",
        "to train it anyway:",
        "write it again:",
    ),
)
RESUME_MEMORY = Remedy(
    "lvjobs resume {run} --memory-mb MEBIBYTES",
    "A run is held because its jobs ran out of memory.",
    "Submits the run again with more memory.",
    ("out of memory, and study.toml sets no memory_mb", "resume with more memory"),
)
RESUME_PACKAGES = Remedy(
    "lvjobs resume {run} --accept-packages",
    "The environment of a program has other packages than when its last checkpoint was made.",
    "Submits the run again with the current packages; its result may differ from that of an undisturbed run.",
    ("or accept the changes:",),
)
RESUME_SETTINGS = Remedy(
    "lvjobs resume RUN --time-limit 12h",
    "`lvjobs resume` was given settings without a run.",
    "Gives the settings to that run.",
    ("settings are for runs that are resumed",),
)
CANCEL = Remedy(
    "lvjobs cancel {run}",
    "A run is no longer wanted, or its job has to end first.",
    "Cancels the run and releases its reserved FLOPs.",
    ("to end it: lvjobs cancel", "cancel the run"),
)
RETRY = Remedy(
    "lvjobs retry {run}",
    "A run was cancelled, and is wanted again.",
    "Submits it again with a new reservation; it continues from its newest checkpoint.",
    ("to submit it again: lvjobs retry", "to submit them again: lvjobs retry", "submit it again"),
)
TAG = Remedy(
    "lvjobs tag {tag} RUN",
    "Runs were to be chosen by a tag that none has.",
    "Gives the tag to a run.",
    ("add it with: lvjobs tag",),
)
ARCHIVE = Remedy(
    "lvjobs archive",
    "A run was to be unpacked that is not archived.",
    "Lists the archived runs.",
    ("is not archived; list",),
)
UNPACK = Remedy(
    "lvjobs archive --unpack {run}",
    "The files of an archived run are needed.",
    "Unpacks the run's directory from its archive.",
    ("is archived; unpack it:", "to include them:"),
)
WHY = Remedy(
    "lvjobs why {run}",
    "A run has no log yet, or its state changed.",
    "Shows the run's state, the evidence, and the next step.",
    ("has no log yet", "held: "),
)
LOGS = Remedy(
    "lvjobs logs {run}",
    "A run failed several times.",
    "Shows the log of its last job.",
    ("see: lvjobs logs", "the log of its last job"),
)
QUEUE = Remedy(
    "lvjobs queue {run}",
    "A run's job waits in the queue.",
    "Shows when it may start, and what would start sooner.",
    ("see what would start sooner",),
)
SUBMIT_TRAIN = Remedy(
    "lvjobs submit train",
    "Nothing was submitted yet, or a run's configuration was edited or lost.",
    "Declares and submits a new training run.",
    ("No runs yet. Type:", "no run has started; type:"),
)
SUBMIT_TASK = Remedy(
    "lvjobs submit run",
    "Nothing was submitted yet, or `submit train` was typed, and [train] names a task of your own.",
    "Declares and submits a run of that task.",
    ("[train] in study.toml names a task of your own", "No runs yet. Type:"),
)
SUBMIT_NAMED_TASK = Remedy(
    "lvjobs submit run MODULE:FUNCTION --config FILE.toml",
    "`submit run` was typed, and no task was named.",
    "Submits a run of the function of that name.",
    ("no task was named",),
)
CONTINUE_RUN = Remedy(
    "lvjobs submit train --continue {run} --steps {steps}",
    "A completed run was submitted again with more steps. It stays as it is.",
    "Submits a run that trains on from its checkpoint, and executes the new steps alone.",
    ("to train on from it:",),
)
CONTINUE_TASK = Remedy(
    "lvjobs submit run --continue {run} --steps {steps}",
    "A completed run of a task of your own, or of a program, was submitted again with more steps. It stays as it is.",
    "Submits a run that trains on from its checkpoint, and executes the new steps alone.",
    ("to train on from it:",),
)
DRY_RUN = Remedy(
    "lvjobs submit train --dry-run",
    "The site may refuse the batch script.",
    "Prints the script, and submits nothing.",
    ("to see the script, type:",),
)
DRY_RUN_TASK = Remedy(
    "lvjobs submit run --dry-run",
    "The site may refuse the batch script of a task of your own.",
    "Prints the script, and submits nothing.",
    ("to see the script, type:",),
)
EVALUATE = Remedy(
    "lvjobs evaluate {runs}",
    "A run was not evaluated, so a table or figure lacks it.",
    "Forecasts and scores held-out series with the run's weights.",
    (
        "has not been evaluated",
        "nothing was evaluated yet",
        "nothing in this study has been evaluated yet",
        "forecast and score held-out series",
    ),
)
EVALUATE_ZERO_SHOT = Remedy(
    "lvjobs evaluate --zero-shot {prompt}",
    "The base model was not evaluated, so nothing shows whether training helped.",
    "Forecasts and scores the same series with the base model, in the same way.",
    ("the base model was not evaluated",),
)
EVALUATE_SAMPLES = Remedy(
    "lvjobs evaluate {run} --samples 20",
    "A greedy forecast has no bands.",
    "Draws 20 forecasts of each series, which show bands.",
    ("It is one greedy forecast, which has no bands",),
)
SCORES = Remedy(
    "lvjobs evaluate --table {run}",
    "A run is evaluated, and its scores are wanted.",
    "Shows the scores of the run's forecasts beside the base model's.",
    ("the scores of its forecasts",),
)
EVALUATIONS = Remedy(
    "lvjobs evaluate --table",
    "A stage of evaluations has no winner, or runs cannot be compared by their loss.",
    "Shows all evaluations in one table.",
    ("evaluates runs, so it has no winner", "two texts, two objectives or other systems"),
)
