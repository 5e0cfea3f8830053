"""The driver's state in words: what keeps the study going."""

from collections.abc import Mapping, Sequence
from typing import Any

from lvjobs import remedies


def driver_lines(shown: Mapping[str, Any], jobs: Sequence[str], now: float, where: Sequence[str] = ()) -> list[str]:
    """Return the lines that `lvjobs driver status` prints of `lvjobs.control.driver.status.report`.

    `jobs` has a line for each of the driver's jobs. `now` is in seconds since the epoch. `where`: see
    `StudyContext.where`.
    """
    lines = [f"driver: {job}" for job in jobs]
    if shown["jobs"] is None:
        lines.append("the scheduler did not say whether there is a driver")
    elif not lines and not shown["cron"]:
        lines.append(f"no driver: {_why(shown, where)}")
    if shown["cron"]:
        lines.append(
            f"{' and '.join(shown['cron'])} makes passes; to end that, type: {remedies.DRIVER_UNINSTALL(*where)}"
        )
    lines += [f"this site: {line}" for line in shown["site"]]
    if shown["last_pass"] is not None:
        lines.append(f"last pass: {now - shown['last_pass']:.0f} s ago")
    return lines


def _why(shown: Mapping[str, Any], where: Sequence[str]) -> str:
    if shown["stopped"]:
        return f"it was stopped; type: {remedies.DRIVER_START(*where)}"
    if not shown["enabled"]:
        return f"job = false under [driver] in study.toml; keep {remedies.WATCH(*where)} running"
    if not shown["left"]:
        return "no run on Slurm is under way that it could take further"
    if shown["refused"]:
        install = remedies.DRIVER_INSTALL_SCRONTAB if shown["scrontab"] else remedies.DRIVER_INSTALL
        return (
            f"the site refused it: {shown['refused']}; name a partition, account or QOS for it under [driver] in "
            f"study.toml, then: {remedies.RESUME(*where)}; where the site allows none, type: {install(*where)}"
        )
    return f"the next pass submits it; type: {remedies.RESUME(*where)}"
