"""The configuration files of a lab, as pure functions of its settings and host."""

from lvjobs.lab.layout import ACCOUNT, CLUSTER, PREEMPTIBLE, URGENT, LabConfig, LabHost, Layout

DATABASE = "slurm_acct"


def _lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line) + "\n"


def _node_range(config: LabConfig) -> str:
    return f"n[1-{config.nodes}]"


def _port_range(site: LabHost) -> str:
    first = site.port_base + 2
    return f"{first}-{first + site.config.nodes - 1}" if site.config.nodes > 1 else f"{first}"


def _render_preemption(config: LabConfig) -> str:
    mode = config.preempt_mode.upper()
    common = f"Nodes=ALL MaxTime={config.max_time} DefaultTime=60 State=UP"
    kind = "partition_prio" if config.preempt_by == "partition" else "qos"
    low, urgent = "", ""
    if config.preempt_by == "partition":
        low = f" PriorityTier=1 PreemptMode={mode} GraceTime={config.grace}"
        urgent = " PriorityTier=10 PreemptMode=OFF"
    return _lines(
        f"PreemptType=preempt/{kind}",
        f"PreemptMode={mode}",
        "PreemptParameters=send_user_signal" if config.user_signal else "",
        f"PartitionName={PREEMPTIBLE} Default=YES {common}{low}",
        f"PartitionName={URGENT} {common}{urgent}",
    )


def _render_accounting(layout: Layout, site: LabHost) -> str:
    if not site.config.accounting:
        return ""
    return _lines(
        "AccountingStorageType=accounting_storage/slurmdbd",
        f"AccountingStorageHost={site.address}",
        f"AccountingStoragePort={site.port_base + 1}",
        # if munge is not at its usual socket, the controller's messages to slurmdbd need this
        f"AccountingStoragePass={layout.munge_socket}",
        "AccountingStorageTRES=gres/gpu" if site.config.gpus else "",
        "AccountingStoreFlags=job_comment",
        "AccountingStorageEnforce=associations,limits,qos",
        "PriorityWeightAge=100",
        "PriorityWeightQOS=1000",
    )


def render_slurm_conf(layout: Layout, site: LabHost, user: str) -> str:
    """Return slurm.conf: one controller and its nodes, all on this machine, run by `user`."""
    config = site.config
    gres = f" Gres=gpu:ampere:{config.gpus}" if config.gpus else ""
    main = _lines(
        f"ClusterName={CLUSTER}",
        f"SlurmctldHost={site.host}({site.address})",
        f"SlurmctldPort={site.port_base}",
        # Slurm then binds to the address of the host's name, which `up` found to be a loopback address
        "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny" if site.loopback_only else "",
        f"SlurmUser={user}",
        f"SlurmdUser={user}",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        # the hold on a requeued job is one second longer than the life of a job credential
        f"AuthInfo=socket={layout.munge_socket},cred_expire={config.hold - 1}",
        f"StateSaveLocation={layout.state}",
        f"SlurmdSpoolDir={layout.spool}/%n",
        f"SlurmctldPidFile={layout.pid_file('slurmctld')}",
        f"SlurmdPidFile={layout.pid_file('slurmd.%n')}",
        f"SlurmctldLogFile={layout.log}/slurmctld.log",
        f"SlurmdLogFile={layout.log}/slurmd.%n.log",
        f"TmpFS={layout.scratch}",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "MpiDefault=none",
        "MailProg=/bin/true",
        "JobAcctGatherType=jobacct_gather/linux",
        "JobAcctGatherFrequency=task=5",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "SchedulerType=sched/backfill",
        # intervals of one second, for tests that wait; they cost nothing while the queue is empty
        "SchedulerParameters=bf_interval=1,bf_resolution=60,sched_interval=1,sched_min_interval=0,"
        "batch_sched_delay=0,defer_batch,nohold_on_prolog_fail",
        "PriorityType=priority/multifactor",
        # allows nodes larger than the machine
        "SlurmdParameters=config_overrides,l3cache_as_socket",
        "ReturnToService=2",
        f"MinJobAge={config.min_job_age}",
        f"KillWait={config.kill_wait}",
        "InactiveLimit=0",
        # long, so that a busy machine does not look like a failed node (`lab fail` sets the node down itself)
        "SlurmdTimeout=120",
        "SlurmctldTimeout=60",
        f"MessageTimeout={config.message_timeout}",
        f"TCPTimeout={min(5, config.message_timeout)}",
        "JobRequeue=1",
        "EnforcePartLimits=ALL",
        "MaxArraySize=20001",
        "MaxJobCount=40000",
        "PropagateResourceLimits=NONE",
        "GresTypes=gpu" if config.gpus else "",
        "DefMemPerCPU=100",
        f"NodeName={_node_range(config)} NodeHostname={site.host} NodeAddr={site.address} Port={_port_range(site)} "
        f"CPUs={config.cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={config.cpus} ThreadsPerCore=1 "
        f"RealMemory={config.memory_mb}{gres} State=UNKNOWN",
    )
    return main + _render_preemption(config) + _render_accounting(layout, site) + _lines(*config.extra).lstrip("\n")


def render_gres_conf(layout: Layout, config: LabConfig) -> str:
    """Return gres.conf: the GPUs are links to a character device, without which a job gets no CUDA_VISIBLE_DEVICES."""
    if not config.gpus:
        return "AutoDetect=off\n"
    files = f"{layout.devices}/nvidia[0-{config.gpus - 1}]" if config.gpus > 1 else f"{layout.devices}/nvidia0"
    return _lines("AutoDetect=off", f"NodeName={_node_range(config)} Name=gpu Type=ampere File={files}")


def render_slurmdbd_conf(layout: Layout, site: LabHost, user: str) -> str:
    """Return slurmdbd.conf; it reaches MariaDB by a socket inside the lab, so no password and no port is needed."""
    return _lines(
        "AuthType=auth/munge",
        f"AuthInfo=socket={layout.munge_socket}",
        f"DbdHost={site.host}",
        f"DbdAddr={site.address}",
        f"DbdPort={site.port_base + 1}",
        "CommunicationParameters=NoInAddrAny" if site.loopback_only else "",
        f"SlurmUser={user}",
        "StorageType=accounting_storage/mysql",
        "StorageHost=localhost",
        "StorageUser=root",
        f"StorageLoc={DATABASE}",
        "CommitDelay=1",
        f"LogFile={layout.log}/slurmdbd.log",
        f"PidFile={layout.pid_file('slurmdbd')}",
    )


def render_accounts(config: LabConfig, user: str) -> tuple[tuple[str, ...], ...]:
    """Return the `sacctmgr` calls that let `user` submit: an account, and with preemption by QOS the two QOS."""
    calls: list[tuple[str, ...]] = [("add", "cluster", CLUSTER), ("add", "account", ACCOUNT, f"cluster={CLUSTER}")]
    if config.preempt_by == "qos":
        mode = f"preemptmode={config.preempt_mode}"
        calls += [
            ("add", "qos", PREEMPTIBLE, "set", "priority=1", f"gracetime={config.grace}", mode),
            ("add", "qos", URGENT, "set", "priority=100", f"preempt={PREEMPTIBLE}"),
            ("modify", "account", ACCOUNT, "set", f"qos+={PREEMPTIBLE},{URGENT}", f"defaultqos={PREEMPTIBLE}"),
        ]
    calls += [
        ("add", "user", user, f"account={ACCOUNT}"),
        # root has an account from the start; last, because a later `up` takes it as proof that all else is done
        ("modify", "user", user, "set", f"defaultaccount={ACCOUNT}"),
    ]
    return tuple(calls)
