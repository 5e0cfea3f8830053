"""A process that measures the parts it is given: `python -m card.helper`.

It reads one JSON object a line on standard input: the part's name, its settings, and how many seconds it may take. It
answers with JSON lines on standard output: any number of {"row": ...} and {"note": ...}, then {"end": true}, or
{"error": ...} with the error's own words. All else that is printed goes to standard error.
"""

import json
import os
import sys
import warnings


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    warnings.filterwarnings("ignore", category=FutureWarning)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            from card import parts
            from card.words import words_of

            for kind, value in parts.measure(asked):
                answers.write(json.dumps({kind: value}) + "\n")
            answer: dict[str, object] = {"end": True}
        except ImportError as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        except Exception as error:  # noqa: BLE001 - any failure becomes a line of the page
            answer = {"error": words_of(error)}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
