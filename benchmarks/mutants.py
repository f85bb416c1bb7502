"""Would the tests notice? Small changes of the scientific code are made one at a time, and tests are run.

    make mutants

Cosmic Ray makes the changes: other operators, signs, comparisons, numbers and constants, calls left out. Each
is tried with the tests that run the changed line, until the first fails. A change that none notices is listed
with a reason: no test can know it ("Equivalent: ..."), or why none should. Give the reasons in the results
file; they are kept as long as the line and its change are the same. Another seed adds other mutants.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from mutants_drawing import AREAS, Mutant, draw
from mutants_trying import Tests, Workshop

from vaevar.errors import UserError
from vaevar.files import require_writable, save_text
from vaevar.scripts import run
from vaevar.verification.tables import markdown_table

ROOT = Path(__file__).parents[1]


def main(
    count: int = 240,
    seed: int = 0,
    seconds: float = 60.0,
    record: str = "data/mutants",
    survivors_again: bool = False,
    areas: list[str] | None = None,
    output: str = "benchmarks/results/mutants.json",
) -> None:
    """Try mutants and write what became of them, also as a table beside it. Given again, it goes on.

    Args:
        count: number of mutants, as many in each area.
        seed: of the draw.
        seconds: how long the tests of one mutant may take together when nothing is changed.
        record: directory with the coverage of each test, made if it is missing. Remove it after a change of
            the package or of tests.
        survivors_again: try again those that no test noticed, after tests were added.
        areas: try those of these areas only, such as ``[cost, balance]``; None: all.
        output: the results.

    Raises:
        UserError: when tests fail without any change.
    """
    results = Path(output)
    require_writable(results)
    tests = Tests(ROOT, Path(record))
    entries = {key(entry): entry for entry in _read(results)}
    place = Path(tempfile.mkdtemp(prefix="mutants-"))
    try:
        workshop = Workshop(ROOT, place)
        for number, mutant in enumerate(draw(ROOT, count, seed)):
            entry = described(mutant, seed)
            known = entries.get(key(entry))
            if areas is not None and mutant.area not in areas:
                continue
            if known is None or (survivors_again and not known["noticed"]):
                trial = workshop.try_out(mutant, tests.of(mutant, seconds), 5 * seconds)
                entry |= {"noticed": trial.noticed, "by": trial.by, "tests": trial.tests}
                entry["at_first"] = known["at_first"] if known else trial.noticed
                if known and not trial.noticed:
                    entry["reason"] = known["reason"]
                entries[key(entry)] = entry
                told = "noticed" if trial.noticed else f"SURVIVED {mutant.path}:{mutant.line}: {mutant.after}"
                print(f"{number + 1}/{count} {trial.seconds:.1f} s {told}", flush=True)
            save_text(results, json.dumps([*entries.values()], indent=1, ensure_ascii=False) + "\n")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    still_there = [entry for entry in entries.values() if _is_there(entry)]
    save_text(results, json.dumps(still_there, indent=1, ensure_ascii=False) + "\n")
    text = report(still_there)
    save_text(results.with_suffix(".md"), text)
    print(text)


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        return list(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise UserError(f"{path}: not results of this program ({error}); remove it") from None


def described(mutant: Mutant, seed: int) -> dict[str, Any]:
    names = ("area", "path", "line", "before", "after")
    return {"seed": seed} | {name: getattr(mutant, name) for name in names} | {"reason": ""}


def _is_there(entry: dict[str, Any]) -> bool:
    """Whether the line that was changed is still there."""
    path = ROOT / entry["path"]
    return path.is_file() and entry["before"] in " ".join(path.read_text(encoding="utf-8").split())


def key(entry: dict[str, Any]) -> tuple[str, str, str]:
    return entry["path"], entry["before"], entry["after"]


def report(entries: list[dict[str, Any]]) -> str:
    """The table by area, and the survivors with their reasons, in Markdown."""
    rows, total = [], Counter[str]()
    for area in AREAS:
        here = [entry for entry in entries if entry["area"] == area]
        if not here:
            continue
        number = Counter(
            mutants=len(here),
            noticed=sum(entry["noticed"] for entry in here),
            equivalent=sum(_equivalent(entry) for entry in here),
        )
        total += number
        rows.append([area, *_numbers(number)])
    rows.append(["all", *_numbers(total)])
    head = ["area", "mutants", "noticed", "equivalent", "survived", "noticed of those that matter"]
    lines = [
        "# Would the tests notice?",
        "",
        "Made by `make mutants`: each mutant is one small change of the code, tried with the tests that run "
        f"its line. Equivalent mutants compute the same, or differ by rounding. {_at_first(entries)}",
        "",
        markdown_table(head, rows),
        "",
        "## Not noticed",
        "",
        *(
            f"- `{entry['path'].removeprefix('vaevar/')}`: `{entry['before']}` → `{entry['after']}`. "
            f"{entry['reason'] or 'No reason known: a test is lacking.'}"
            for entry in entries
            if not entry["noticed"]
        ),
    ]
    return "\n".join(lines) + "\n"


def _at_first(entries: list[dict[str, Any]]) -> str:
    """How many of each seed were noticed before tests were added for those that were not."""
    told = []
    for seed in sorted({entry["seed"] for entry in entries}):
        matter = [entry for entry in entries if entry["seed"] == seed and not _equivalent(entry)]
        noticed = sum(entry["at_first"] for entry in matter)
        told.append(f"{noticed} of {len(matter)} of seed {seed}")
    return f"Noticed when they were first tried: {', '.join(told)}."


def _equivalent(entry: dict[str, Any]) -> bool:
    return not entry["noticed"] and entry["reason"].startswith("Equivalent")


def _numbers(number: Counter[str]) -> list[str]:
    matter = number["mutants"] - number["equivalent"]
    left = matter - number["noticed"]
    share = f"{number['noticed'] / matter:.0%}" if matter else "–"
    return [*(str(number[name]) for name in ("mutants", "noticed", "equivalent")), str(left), share]


if __name__ == "__main__":
    run(main)
