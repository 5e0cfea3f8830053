"""An sshd of this user's own on the loopback, for tests."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAMS = {name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("sshd", "ssh-keygen", "ssh")}
PATIENCE = 300


def free_port() -> int:
    """Return a port that is free now; another process may take it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def sshd(directory: Path) -> Iterator[Path]:
    """Start an sshd; yield an ssh configuration in which it is the host `login`."""
    if missing := [name for name, path in PROGRAMS.items() if path is None]:
        pytest.skip(f"not installed here: {', '.join(missing)}")
    for name in ("host_key", "user_key"):
        keys = [PROGRAMS["ssh-keygen"], "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
        subprocess.run(keys, check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd runs part of itself in there
    settings = (
        f"ListenAddress 127.0.0.1\nHostKey {directory / 'host_key'}\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {directory / 'user_key.pub'}\nPermitRootLogin yes\nMaxStartups 20\n"
    )
    log = directory / "sshd.log"
    for _ in range(5):  # another process may have taken the port that was free
        port = free_port()
        (directory / "sshd_config").write_text(f"Port {port}\n{settings}")
        with log.open("wb") as said:
            command = [PROGRAMS["sshd"], "-D", "-e", "-f", str(directory / "sshd_config")]
            daemon = subprocess.Popen(command, stdout=said, stderr=said)
        deadline = time.monotonic() + PATIENCE
        while "Server listening on" not in log.read_text() and daemon.poll() is None:
            assert time.monotonic() < deadline, "sshd does not listen"
            time.sleep(0.1)
        if daemon.poll() is None:
            break
    assert daemon.poll() is None, log.read_text()
    config = directory / "ssh_config"
    config.write_text(
        f"Host login\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {directory / 'user_key'}\n"
        "  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
    )
    try:
        yield config
    finally:
        daemon.terminate()
        daemon.wait()
