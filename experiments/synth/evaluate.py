"""Compare the trainings, trained in one form, tested in another; make the tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.common.runner import Row, read_figures
from experiments.common.tables import goal, table, verdict
from experiments.synth import config, train
from experiments.synth.protocol import RECURSION

FORMS = tuple(str(form) for form in train.FORMS)
TITLES = {"acid": "acid bass line", "known": "known parameters"}
FILTERS = {"coeff": "free coefficients", "lp": "low-pass"}


MARKERS = ("synth", "matrices", "recovered")


class Group(NamedTuple):
    """Trainings of one set of notes and one filter: by form, the seeds' results, in the seeds' order."""

    notes: str
    filter: str
    forms: dict[str, list[Row]]


def collected(folder: Path) -> list[Group]:
    """Read the trainings of a folder; of each group the seeds that have all forms.

    Raises:
        ValueError: there is no group with all forms.
    """
    found = [read_figures(path) for path in sorted(folder.glob("*-*-*-*.json"))]
    groups = []
    for notes in TITLES:
        for filter_name in config.FILTERS:
            own = [one for one in found if (one["notes"], one["filter"]) == (notes, filter_name)]
            by_form = {form: {o["seed"]: o for o in own if str(o["form"]) == form} for form in FORMS}
            seeds = sorted(set.intersection(*(set(one) for one in by_form.values())))
            if seeds:
                forms = {form: [one[seed] for seed in seeds] for form, one in by_form.items()}
                groups.append(Group(notes, filter_name, forms))
    if not groups:
        raise ValueError(f"'{folder}' has no set of trainings in all forms; run the command train first")
    return groups


def losses(results: Sequence[Row], form: str) -> np.ndarray:
    """Return the losses of the test notes in one form, (seeds, n)."""
    return np.array([one["tested"][form] for one in results])


def mean(results: Sequence[Row], form: str) -> float:
    """Return the mean loss over seeds and test notes."""
    return float(np.mean(losses(results, form)))


def compared(group: Group) -> list[Row]:
    """Compare each form with the recursion, both tested as recursion, note by note and seed by seed."""
    best = losses(group.forms[RECURSION], RECURSION)
    rows = []
    for form, results in group.forms.items():
        tested = losses(results, RECURSION)
        by_seed = np.mean(tested, axis=1)
        rows.append(
            {
                "notes": TITLES[group.notes],
                "filter": FILTERS[group.filter],
                "trained in": form,
                "tested in it": mean(results, form),
                "as recursion": float(np.mean(tested)),
                "of the seeds": " ".join(f"{value:.3f}" for value in by_seed),
                "more than recursion": None if form == RECURSION else float(np.mean(tested - best)),
                "notes worse": None if form == RECURSION else f"{np.mean(tested > best):.0%}",
                "skipped": sum(one["skipped"] for one in results),
            }
        )
    return rows


def matrix(group: Group) -> list[Row]:
    """Return the mean losses: trained in (rows), tested in (columns)."""
    return [
        {"trained in": form, **{f"tested in {other}": mean(results, other) for other in FORMS}}
        for form, results in group.forms.items()
    ]


def recovered(group: Group) -> list[Row]:
    """Return the distance of the low-pass from the one that made the notes."""
    return [
        {
            "trained in": form,
            **{
                title: float(np.mean([one["known"][name] for one in results]))
                for title, name in (
                    ("cutoff off by, octaves, median", "cutoff_octaves_median"),
                    ("90 %", "cutoff_octaves_90"),
                    ("Q off by a factor of, median", "q_ratio_median"),
                )
            },
        }
        for form, results in group.forms.items()
    ]


def goals(groups: Sequence[Group]) -> Iterator[Row]:
    """Give the goals: training in the recursion is best when tested as recursion; no step lost."""
    for group in groups:
        tested = {form: mean(results, RECURSION) for form, results in group.forms.items()}
        best = min((form for form in tested if form != RECURSION), key=lambda form: tested[form])
        value = tested[RECURSION] - tested[best]
        text = f"{TITLES[group.notes]}, {FILTERS[group.filter]}: recursion below every window length"
        yield goal(text, f"{tested[RECURSION]:.3f} against {tested[best]:.3f} of {best}", value < 0)
    skipped = sum(one["skipped"] for group in groups for results in group.forms.values() for one in results)
    yield goal("no step lost to a number that is not finite", skipped, skipped == 0)


def cell(column: str, value: Any) -> str:
    """Return a value as the table shows it."""
    if value is None:
        return "–"
    if column == "more than recursion":
        return f"{value:+.3f}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def markdown(groups: Sequence[Group]) -> dict[str, str]:
    """Return the tables by the names of their markers."""
    first = next(iter(groups[0].forms.values()))[0]
    intro = f"{first['made_with']} {first['steps']} steps; as many seeds as *of the seeds* has figures."
    main = [intro, table([row for group in groups for row in compared(group)], cell)]
    texts = {"synth": "\n\n".join([*main, verdict(list(goals(groups)), cell)]) + "\n"}
    matrices = [
        f"{TITLES[group.notes].capitalize()}, {FILTERS[group.filter]}:\n\n{table(matrix(group), cell)}\n"
        for group in groups
    ]
    texts["matrices"] = "\n".join(matrices)
    for group in groups:
        if group.notes == "known" and group.filter == "lp":
            texts["recovered"] = table(recovered(group), cell) + "\n"
    return texts
