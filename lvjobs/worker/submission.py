"""A submission's orders to the worker of one run: its configuration, whether it may train it, and for how many steps.

A reconcile pass appends an order to the submission's file before it submits the run again elsewhere. A worker claims
its generation, durably, and reads the orders after that. So one of the two always sees the other: the pass the claim,
or the worker the order.
"""

import os
from contextlib import suppress
from typing import BinaryIO

from lvjobs import files, remedies
from lvjobs.errors import RunRefused
from lvjobs.records.run_files import Allowance
from lvjobs.records.submission import GpuAllowance, find_member, read_orders
from lvjobs.study.layout import RunLayout
from lvjobs.study.run import RunConfig, RunFile


class Submission:
    """One run's part of a submission's file, and the orders for it as they were read last.

    `is_revoked`: the submission may train the run no more. `allowance`: the training steps that the run may execute in
    all its attempts; None for no limit. `gpu_seconds`: the same for the GPU-seconds that its jobs may hold. `stop_at`:
    the step at which the run stops, to be compared with others; 0 for none. A worker
    that is started by hand has no submission (its token is empty), and one that an older release submitted has no file.
    The run directory then has run.json, and may have allowance.json and a mark in `revoked/`.
    """

    def __init__(self, layout: RunLayout, token: str) -> None:
        """Read the file.

        Raises:
            OSError: the file system does not answer now.
            RunRefused: there is no file, or it cannot be parsed, or does not name the run.
        """
        self.is_revoked = False
        self.allowance: int | None = None
        self.gpu_seconds: GpuAllowance | None = None
        self.stop_at = 0
        self._layout, self._token = layout, token
        self._path = layout.study.submission(token)
        self._text: str | None = None
        self._end = self._inode = 0
        self._has_file = bool(token) and not (layout.is_older and not self._path.exists())
        try:
            self.refresh()
        except FileNotFoundError:
            raise self._refused("it is gone") from None

    def _read_member(self, stream: BinaryIO) -> None:
        try:
            member = find_member(stream, self._layout.root.name)
        except (ValueError, KeyError, TypeError) as error:
            raise self._refused(f"it cannot be parsed ({error})") from None
        if member is None:
            raise self._refused(f"it does not name {self._layout.root.name}")
        self.allowance, self._text = member.allowance, files.json_text(member.run)

    def _refused(self, why: str) -> RunRefused:
        return RunRefused(
            f"{self._path}: what this job is to train cannot be read, for {why}; to have it written again: "
            f"{remedies.RESUME_RUN(run=self._layout.root.name)}"
        )

    def refresh(self) -> None:
        """Read the orders that were given since the last time.

        Raises:
            OSError: the file system does not answer now.
            RunRefused: the file, or an allowance, cannot be parsed.
        """
        if not self._has_file:
            self._read_run_directory()
            return
        with self._path.open("rb") as stream:
            inode = os.fstat(stream.fileno()).st_ino
            if inode != self._inode:  # the first time, or a pass wrote the file again because it was lost
                self._read_member(stream)
                self._inode, self._end = inode, 0
                stream.seek(0)
            orders, self._end = read_orders(stream, self._end)
        name = self._layout.root.name
        self.is_revoked |= name in orders.revoked
        self.allowance = orders.allowed.get(name, self.allowance)
        self.gpu_seconds = orders.gpu_seconds.get(name, self.gpu_seconds)
        self.stop_at = orders.stop_at.get(name, self.stop_at)

    def _read_run_directory(self) -> None:
        path = self._layout.allowance
        self.is_revoked = bool(self._token) and (self._layout.revoked / self._token).exists()
        try:
            self.allowance = Allowance.from_json(path.read_text(encoding="utf-8")).training
        except FileNotFoundError:
            self.allowance = None
        except ValueError as error:
            raise RunRefused(
                f"{path}: the run's allowance cannot be read ({error}); check the disk, then: "
                f"{remedies.RESUME_RUN(run=self._layout.root.name)}"
            ) from None

    def read_run(self) -> RunConfig:
        """Return the run's configuration, if this process may train it, and make its run directory where it is missing.

        Raises:
            OSError: the directory cannot be made.
            RunRefused: the configuration is missing, invalid or edited, or the directory belongs to another user.
        """
        layout = self._layout
        if self._text is not None:
            files.make_directory(layout.root)
        try:
            owner = layout.root.stat().st_uid
            if owner != os.getuid():
                raise RunRefused(
                    f"{layout.root} belongs to user {owner}, and this job runs as {os.getuid()}; it is not trained: "
                    "declare a run of your own, in a study of your own"
                )
            text = self._keep_text() if self._text is not None else layout.config.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RunRefused(
                f"{layout.config}: cannot be read ({error}); name a run directory, or see: {remedies.LEDGER_CHECK}"
            ) from None
        try:
            run = RunFile.model_validate_json(text)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise RunRefused(
                f"{layout.config} is not a run's configuration ({reason}); runs.db has it; to write it again: "
                f"{remedies.RESUME_RUN(run=layout.root.name)}"
            ) from None
        if not run.is_as_declared:
            raise RunRefused(
                f"{layout.config}: the configuration was edited after it was declared (its fingerprint differs). "
                f"A run is immutable; to have its own configuration written again, type: "
                f"{remedies.RESUME_RUN(run=layout.root.name)}"
            )
        return run.config

    def _keep_text(self) -> str:
        """Return what the submission's file says of the run, once run.json says the same."""
        assert self._text is not None
        path = self._layout.config
        with suppress(FileNotFoundError, UnicodeDecodeError, ValueError):
            text = path.read_text(encoding="utf-8")
            if text == self._text:
                return text
            if (owner := RunFile.model_validate_json(text).id) != RunFile.model_validate_json(self._text).id:
                raise RunRefused(
                    f"{path} is of another run ({owner}), and nothing in its directory is touched; move the directory "
                    f"away, then: {remedies.RESUME_RUN(run=self._layout.root.name)}"
                )
        files.write_atomic(path, self._text)
        return self._text
