"""`lvjobs plan --apply`: a plan that fits the budget, written into study.toml."""

from collections.abc import Mapping
from typing import Any

from lvjobs.errors import UsageError
from lvjobs.files import write_atomic
from lvjobs.study.config import StudyContext, study_model, validated


def apply_plan(study: StudyContext, plan: Mapping[str, Any]) -> list[str]:
    """Change the stages of study.toml to a plan of `plans.judge`, and keep everything else, comments too.

    Returns:
        A line for each change.

    Raises:
        UsageError: A stage varies its steps, or study.toml cannot be written. Nothing was changed.
    """
    import tomlkit

    path = study.layout.config
    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); nothing was changed") from error
    if "stage" not in document:  # the default stages are declared, so that they can differ
        declared = tomlkit.aot()
        for stage in study.config.stage:
            declared.append(tomlkit.item(stage.model_dump(mode="json", by_alias=True, exclude_defaults=True)))
        document["stage"] = declared
    lines = [*_without(document, plan["left_out"]), *_cut(document, plan)]
    text = tomlkit.dumps(document)
    values = tomlkit.parse(text).unwrap()
    validated(study_model(values), values, f"{path}, as it would be", path.parent)
    try:
        write_atomic(path, text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); nothing was changed") from error
    return lines


def _without(document: Any, left_out: Any) -> list[str]:
    """Remove stages, also from the lists of stages that name them."""
    for name in left_out:
        place = next(at for at, table in enumerate(document["stage"]) if table["name"] == name)
        del document["stage"][place]
        for table in document["stage"]:
            for key in ("evaluate", "after"):
                if name in table.get(key, ()):
                    table[key] = [each for each in table[key] if each != name]
    return [f"stage {name}: removed" for name in left_out]


def _cut(document: Any, plan: Mapping[str, Any]) -> list[str]:
    """Set the steps of stages that the plan cuts."""
    lines = []
    for part in plan["stages"]:
        if part["steps"] >= part["asked_steps"]:
            continue
        table = next(table for table in document["stage"] if table["name"] == part["name"])
        if "steps" in table.get("grid", {}) or "steps" in table.get("space", {}):
            raise UsageError(f"stage {part['name']} varies its steps, so no plan can set them; change its grid by hand")
        table["steps"] = part["steps"]
        if "steps" in table.get("set", {}):
            del table["set"]["steps"]
        lines.append(f"stage {part['name']}: steps {part['asked_steps']:,} -> {part['steps']:,}")
    return lines
