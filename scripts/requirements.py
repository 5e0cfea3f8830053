"""Print what the control plane and its tests need, without what only jobs load: `requirements.py newest|lowest|main`.

`lowest` pins each requirement of lvjobs to the lowest version that pyproject.toml allows; what tests need stays newest.
`main` has submitit as its repository has it, whatever version that is; SUBMITIT names another place than GitHub.
"""

import os
import sys
from pathlib import Path

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OF_JOBS = {"torch", "transformers", "peft", "accelerate", "bitsandbytes"}
OF_TESTS = {"pytest", "pytest-timeout", "pytest-xdist", "hypothesis"}
MAIN = "git+https://github.com/facebookincubator/submitit"


def lowest(requirement: Requirement) -> str:
    """Return the requirement with its lower bound as its only version."""
    (bound,) = (each.version for each in requirement.specifier if each.operator == ">=")
    return f"{requirement.name}=={bound}"


def wanted_as(kind: str, requirement: Requirement) -> str:
    """Return the line for one requirement of lvjobs."""
    if kind == "lowest":
        return lowest(requirement)
    if kind == "main" and requirement.name == "submitit":
        return f"submitit @ {os.environ.get('SUBMITIT', MAIN)}"
    return str(requirement)


def main() -> None:
    """Print one requirement a line."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = [Requirement(each) for each in project["dependencies"]]
    wanted = [each for each in own if each.name not in OF_JOBS and (each.marker is None or each.marker.evaluate())]
    lines = [wanted_as(sys.argv[1], each) for each in wanted]
    lines += [each for each in project["optional-dependencies"]["dev"] if Requirement(each).name in OF_TESTS]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
