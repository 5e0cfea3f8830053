from pathlib import Path


def flaw_of(path: Path) -> str:
    return ""
