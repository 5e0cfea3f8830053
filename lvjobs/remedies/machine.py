"""Remedies for files, the driver, models, packages, the site and the lab."""

from lvjobs.remedies.remedy import Remedy

# -- runs.db --------------------------------------------------------------------------------------------------------

LEDGER_CHECK = Remedy(
    "lvjobs ledger check",
    "runs.db, or a file in a run's directory, cannot be read or was not written by lvjobs.",
    "Compares runs.db with the run directories, and lists differences.",
    ("see: lvjobs ledger check", "see lvjobs ledger check", "if that does not help: lvjobs ledger check"),
)
LEDGER_REBUILD = Remedy(
    "lvjobs ledger rebuild",
    "runs.db is gone.",
    "Rebuilds it from its log and the run directories.",
    ("rebuild it from them:",),
)
LEDGER_REBUILD_ASIDE = Remedy(
    "lvjobs ledger rebuild --aside",
    "runs.db is damaged, or was copied while it was written.",
    "Keeps the damaged file under another name, and rebuilds runs.db from its log and the run directories.",
    (
        "or rebuild it: lvjobs ledger rebuild --aside",
        "run directories: lvjobs ledger rebuild --aside",
        "from the journals: lvjobs ledger rebuild --aside",
    ),
)
REMOVE_LOG = Remedy(
    "rm {path}",
    "A line of the ledger's log is damaged. runs.db is sound.",
    "Removes the log. The next command writes another from runs.db.",
    ("the next command writes another:",),
)
LEDGER_BACKUP = Remedy(
    "lvjobs ledger backup",
    "Another program wants to read runs.db on a network file system.",
    "Writes a copy that is whole.",
    ("or read a copy: lvjobs ledger backup",),
)
LEDGER_EXPORT = Remedy(
    "lvjobs ledger export",
    "Another program wants to read runs.db on a network file system.",
    "Prints its rows as JSON lines; with a directory, writes them as files.",
    ("read it with lvjobs ledger export",),
)

# -- the driver -----------------------------------------------------------------------------------------------------

DRIVER_START = Remedy(
    "lvjobs driver start",
    "The driver was stopped, or the study is a copy.",
    "Starts the driver, which updates the study unattended.",
    ("it was stopped; type: lvjobs driver start", "nothing starts here automatically"),
)
DRIVER_STOP = Remedy(
    "lvjobs driver stop",
    "runs.db was rebuilt, and does not know that the driver was stopped.",
    "Stops the driver.",
    ("whether the driver was stopped",),
)
DRIVER_INSTALL = Remedy(
    "lvjobs driver install",
    "The site lets no driver job run.",
    "Adds a line to the crontab of this host that updates the study.",
    ("type: lvjobs driver install",),
)
DRIVER_INSTALL_SCRONTAB = Remedy(
    "lvjobs driver install --scrontab",
    "The site lets no driver job run, and offers scrontab.",
    "Adds a line to Slurm's own crontab that updates the study.",
    ("type: lvjobs driver install --scrontab",),
)
DRIVER_UNINSTALL = Remedy(
    "lvjobs driver uninstall",
    "The line in the crontab is no longer wanted.",
    "Removes it.",
    ("to remove it, type: lvjobs driver uninstall", "to remove it, type: lvjobs driver uninstall"),
)

# -- models, data and packages --------------------------------------------------------------------------------------

MODEL_PULL = Remedy(
    "lvjobs model pull {model}",
    "A model is not in the cache, and jobs do not download.",
    "Downloads the model; type it where there is a network, with the same HF_HOME.",
    ("and jobs do not download", "fetch yours:", "is incomplete"),
)
MODEL_CHECK = Remedy(
    "lvjobs model check {model}",
    "A model, or its tokenizer, cannot be loaded; or an adapter was trained on other weights of it.",
    "Lists what it lacks, and prints the SHA-256 of its weights.",
    ("see what it lacks", "to check it, type: lvjobs model check"),
)
DATA_MAKE = Remedy(
    "lvjobs data make {path}",
    "The data file is not there.",
    "Writes a file of synthetic series in the format that lvjobs reads.",
    ("name yours with --data",),
)
INSTALL_EXTRA = Remedy(
    "{python} -m pip install {package}",
    "A command needs a package that lvjobs does not install, or another version of one.",
    "Installs it into the environment that lvjobs runs in.",
    ("takes the package",),
)

SSH_CHECK = Remedy(
    "ssh {host} true",
    "A login node could not be reached by `lvjobs --host` or `[remote]`.",
    "Shows whether ssh reaches it, and asks for a password or a key if that is missing.",
    ("ssh could not run the command on",),
)
INSTALL_VERSIONS = Remedy(
    "{python} -m pip install {packages}",
    "A package that lvjobs needs is missing or too old.",
    "Installs it into the environment that lvjobs runs in.",
    ("too old, or missing", "is not installed but runs from a directory"),
)

# -- the site, the file system --------------------------------------------------------------------------------------

SCONTROL_RELEASE = Remedy(
    "scontrol release {job}",
    "You, or Slurm, hold a job.",
    "Lets it start.",
    ("held by its user", "held by Slurm: its reservation was deleted"),
)
SCANCEL = Remedy(
    "scancel --name={job}",
    "Slurm's controller stopped answering before the test job of `lvjobs doctor --job` had ended.",
    "Ends the test job.",
    ("may still be in the queue",),
)
SCONTROL_UPDATE = Remedy(
    "scontrol update jobid={job} {setting}",
    "A job would start sooner with less time or in another partition.",
    "Changes the job that waits, which keeps its place in the queue.",
    ("min instead of", "to apply it, type"),
)
PROFILE_BACK = Remedy(
    "cp {copy} {profile}",
    "A profile's file is gone or broken, and a run was submitted by it before.",
    "Puts back the file as it was when the run was last submitted.",
    ("as it was last submitted:",),
)
CHMOD_PRIVATE = Remedy(
    "chmod go= {path}",
    "Others may read the study.",
    "Takes their permissions away.",
    ("if that is not meant, type: chmod",),
)
CHMOD_OWNER = Remedy(
    "chmod u+rwx {path}",
    "The study's directory cannot be written.",
    "Gives you permission.",
    ("cannot be written (mode",),
)

# -- the lab --------------------------------------------------------------------------------------------------------

LAB_UP = Remedy(
    "lvjobs lab up",
    "There is no Slurm here, or the lab does not run.",
    "Starts a private Slurm cluster on this machine.",
    ("no lab here yet", "there is no lab in", "slurmctld does not run, so it cannot be", "for a cluster of your own"),
)
LAB_UP_INSTALL = Remedy(
    "lvjobs lab up --install",
    "The lab needs Debian packages that are not installed.",
    "As root, installs them and starts the lab.",
    ("to install them and start the lab", "correct that, then type: lvjobs lab up --install"),
)
LAB_STATUS = Remedy(
    "lvjobs lab status",
    "A program of the lab did not answer.",
    "Shows which of the lab's daemons run.",
    ("to see which daemons run",),
)
LAB_DOWN = Remedy(
    "lvjobs lab down",
    "A lab with other settings runs already.",
    "Stops it; `lvjobs lab up` then starts one with other settings.",
    ("a lab with other settings runs in",),
)
LAB_PURGE = Remedy(
    "lvjobs lab down --purge",
    "The lab's record is not readable.",
    "Removes the lab's directory.",
    ("remove the lab; type: lvjobs lab down --purge",),
)
LAB_THAW = Remedy(
    "lvjobs lab thaw", "slurmctld was frozen by `lvjobs lab freeze`.", "Continues it.", ("slurmctld is frozen",)
)
LAB_RESTORE = Remedy(
    "lvjobs lab restore {node}",
    "A node was taken down by `lvjobs lab fail`.",
    "Brings it back.",
    ("is down; to bring it back",),
)
LAB_ENVIRONMENT = Remedy(
    'eval "$(lvjobs lab env)"',
    "The lab runs, and this shell does not use it.",
    "Sets SLURM_CONF in this shell.",
    ("to use it, type:",),
)
INSTALL_DEBIAN = Remedy(
    "sudo apt-get install --no-install-recommends {packages}",
    "The lab needs Debian packages that are not installed.",
    "Installs them.",
    ("not installed here", "--install works for root only"),
)
