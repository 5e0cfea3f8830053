"""Numbers as the tables and figures of a report write them."""


def short(value: float) -> str:
    """Three significant digits, zeros at the end too; `.0710` as the tables of the field have it."""
    text = f"{value:#.3g}".rstrip(".")
    return text.removeprefix("0") if text.startswith("0.") else text
