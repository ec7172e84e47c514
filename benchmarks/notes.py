"""What is said under a table: budget, protocol, cost, uncertainty, what failed, what is missing and why."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from benchmarks.cells import Row
from benchmarks.collect import Printed
from benchmarks.registry import DATASETS, METHODS, PRESETS, TABLES, dataset_path, prepare_command
from benchmarks.rows import KEPT
from benchmarks.tables import Entry, Table, headline
from data_prep.catalogue import CATALOGUE

NAMED = 12
"""So many places are named in a note; of more, the number is said."""
SAID = {
    "unmatched": "the method's own channel 0 is the foreground, nothing is matched",
    "image-permutation": "image-permutation, an oracle: for each image, the better of its two regions",
    "best-of-two": "best-of-two, an oracle: the best slot, or all but the background's slot, chosen by the truth",
}
EQUAL = 1.25
"""Times are called about equal if the longest is at most so many times the shortest."""
SETTINGS = {
    "train_steps": "training steps",
    "train_images": "images trained on",
    "train_data_sha256": "data trained on",
    "n_images": "images scored",
    "protocol": "protocol",
}
"""What the seeds of one figure must have in common; of a row where it was not kept nothing is said."""
FEW = 10  # images
NEAR_FLOOR = 1.0
"""A method within so many points of a floor has not shown that it looks at the image."""


def notes_of(table: Table, preset: str, printed: list[Printed]) -> list[str]:
    """Every note, in the order in which they are printed."""
    budget, beside = PRESETS[preset], any(p.published_iou is not None for p in printed)
    notes = [
        f"Budget {preset} ({budget.about}): all methods run and are scored at {budget.image_size}×"
        f"{budget.image_size} pixels."
        + (" The published figures are at 128×128 and the authors' budget." if beside else "")
    ]
    measured = {p.entry.column for p in printed if p.rows}
    notes += [c.about for c in table.columns if c.label in measured and c.about]
    notes += _counts(printed)
    notes += _first_of_many(preset, printed)
    notes += _prepared_as(printed)
    notes += _other_images(printed)
    notes += _other_settings(printed)
    notes += _protocols(printed)
    notes += _costs(printed)
    notes += _uncertainty(printed)
    notes += _near_floors(printed)
    notes += _failures(printed)
    notes += _sources(printed)
    figures = [p.entry for p in printed if p.rows or p.published_iou is not None]
    lines, columns = {entry.line for entry in figures}, {entry.column for entry in figures}
    shown = "".join(line.marks for line in table.lines if line.label in lines)
    shown += "".join(column.marks for column in table.columns if column.label in columns)
    notes += [f"{mark} {text}" for mark, text in table.footnotes.items() if mark in shown]
    return notes + _reasons(table, printed)


def name_of(printed: Printed) -> str:
    """The method; its variant where that is not the headline; its training set where another one is scored."""
    e = printed.entry
    origin = f" trained on {e.train_dataset}" if e.train_dataset not in ("", e.dataset) else ""
    return variant_name(e) + origin


def variant_name(entry: Entry) -> str:
    """The method, and its variant where that is not the headline."""
    plain = entry.variant in ("", headline(entry.method))
    return entry.method if plain else f"{entry.method} {entry.variant}"


def place_of(entry: Entry) -> str:
    """What a cell is scored on, in words."""
    spec = DATASETS[entry.dataset]
    return f"{spec.label}, {spec.splits[entry.split].label}"


def floor_names() -> frozenset[str]:
    """The methods that look at no pixel."""
    return frozenset(name for name, spec in METHODS.items() if spec.floor)


def near_floors(printed: Iterable[Printed]) -> list[tuple[Printed, Printed]]:
    """Each measured method with each floor, on the same images, that is within a point of it in IoU.

    By the mean over its seeds, or by single ones.
    """
    floors: dict[tuple[str, str], dict[str, Printed]] = {}
    others = []
    names = floor_names()
    for p in printed:
        if p.rows and p.entry.method in names:
            floors.setdefault((p.entry.dataset, p.entry.split), {})[p.entry.method] = p
        elif p.rows:
            others.append(p)
    return [
        (p, floor)
        for p in others
        for floor in floors.get((p.entry.dataset, p.entry.split), {}).values()
        if is_near(p.iou, floor) or seeds_near(p, floor)
    ]


def is_near(iou: float | None, floor: Printed) -> bool:
    """Whether an IoU in percent is within a point of a floor's."""
    return abs((iou or 0.0) - (floor.iou or 0.0)) <= NEAR_FLOOR


def seeds_near(printed: Printed, floor: Printed) -> list[Row]:
    """The trainings that are each within a point of the floor."""
    return [row for row in printed.rows if is_near(100 * row.iou, floor)]


def _counts(printed: list[Printed]) -> list[str]:
    counts: dict[str, set[int]] = {}
    for p in printed:
        for row in p.rows:
            counts.setdefault(place_of(p.entry), set()).add(row.n_images)
    if not counts:
        return []
    said = [f"{place}: {' or '.join(map(str, sorted(n)))}" for place, n in counts.items()]
    few = min(map(min, counts.values())) < FEW
    return [
        f"Images scored: {listed(said, '; ')}. "
        "Each figure is the mean over images; empty over empty counts as 1."
        + (f" Of fewer than {FEW} images figures and intervals say little." if few else "")
    ]


def _first_of_many(preset: str, printed: list[Printed]) -> list[str]:
    """Which images are scored of a data set that may have more to train on than the budget takes."""
    most = PRESETS[preset].scored_of
    trained_on = {p.entry.train_dataset for p in printed}
    places: dict[str, dict[str, None]] = {", on which every method trains": {}, "": {}}
    for p in printed:
        name, spec = p.entry.dataset, DATASETS[p.entry.dataset]
        to_train_on = not spec.generated and spec.splits[p.entry.split].rows == spec.train
        if most and p.rows and to_train_on:
            places[", on which every method trains" if name in trained_on else ""][place_of(p.entry)] = None
    return [
        f"{listed(names, '; ')}: scored among the first {most:,}{why}."
        for why, names in places.items()
        if names
    ]


def _prepared_as(printed: list[Printed]) -> list[str]:
    """Which making of one of the paper's data sets was scored: dogs-remade or dogs-authors, say."""
    found: dict[str, dict[str, None]] = {}
    for p in printed:
        base = p.entry.dataset.removesuffix("-split")
        for row in p.rows if base in CATALOGUE else ():
            if row.data_name.startswith(f"{base}-"):
                why = f" ({CATALOGUE[base].remark.rstrip('.')})" if row.data_name == f"{base}-remade" else ""
                found.setdefault(place_of(p.entry), {})[row.data_name + why] = None
    return [f"{place}: prepared as {listed(names)}." for place, names in found.items()]


def _other_images(printed: list[Printed]) -> list[str]:
    """A warning for each place where figures stand beside one another that are of different images."""
    scored: dict[str, dict[str, dict[str, None]]] = {}
    for p in printed:
        for row in p.rows:
            lines = scored.setdefault(place_of(p.entry), {}).setdefault(row.data_sha256, {})
            lines[f"{variant_name(p.entry)}, seed {row.seed}"] = None
    return _first(
        f"NOT THE SAME IMAGES on {place}: "
        + "; ".join(f"data {sha256[:12]}: {listed(lines)}" for sha256, lines in images.items())
        + ". Measure again with one data set."
        for place, images in scored.items()
        if len(images) > 1
    )


def _other_settings(printed: list[Printed]) -> list[str]:
    """A warning for each method with figures that are means over seeds of different settings."""
    places: dict[tuple[str, str], dict[str, None]] = {}
    for p in printed:
        if differ := "; ".join(filter(None, (_differing(p, name) for name in SETTINGS))):
            places.setdefault((name_of(p), differ), {})[place_of(p.entry)] = None
    return _first(
        f"NOT THE SAME SETTINGS in the seeds of {method} on {listed(where, '; ')}: {differ}. Their mean and "
        "deviation are of unlike runs: measure again with one setting."
        for (method, differ), where in places.items()
    )


def _differing(printed: Printed, name: str) -> str:
    """The values of a row's field with the seeds that have each, where there are several; else empty."""
    seeds: dict[str, list[str]] = {}
    for row in printed.rows:
        value = getattr(row, name)
        if value not in (None, ""):
            said = value[:12] if name.endswith("sha256") else str(value)
            seeds.setdefault(said, []).append(str(row.seed))
    said = [f"{value} (seed {' '.join(which)})" for value, which in seeds.items()]
    return f"{SETTINGS[name]}: {listed(said)}" if len(said) > 1 else ""


def _protocols(printed: list[Printed]) -> list[str]:
    methods: dict[str, dict[str, None]] = {}
    for p in printed:
        for row in p.rows:
            methods.setdefault(row.protocol, {})[variant_name(p.entry)] = None
    return [
        f"Protocol of {listed(lines)}: {', '.join(SAID.get(part, part) for part in protocol.split(', '))}."
        for protocol, lines in methods.items()
    ]


def _costs(printed: list[Printed]) -> list[str]:
    """Training seconds of what was trained: methods are compared at equal ones, or it is seen that they are not."""
    trainings: dict[tuple[str, str], dict[tuple[str, int], float]] = {}
    about: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
    for p in printed:
        for row in p.rows:
            if row.train_dataset:
                which = (variant_name(p.entry), row.device)
                trainings.setdefault(which, {})[row.train_dataset, row.seed] = row.train_seconds
                said = about.setdefault(which, {"images": {}, "restarts": {}})
                said["images"][f"{row.train_images} images of {row.train_dataset}"] = None
                if row.restarts:
                    said["restarts"][f"{row.restarts} (seed {row.seed})"] = None
    notes = _equal_seconds(printed)
    for (name, device), seconds in trainings.items():
        images, restarts = about[name, device]["images"], about[name, device]["restarts"]
        low, high = min(seconds.values()), max(seconds.values())
        each = " to ".join(dict.fromkeys(f"{end:.0f}" for end in (low, high)))
        count = "" if len(seconds) == 1 else f" in each of {len(seconds)} trainings"
        again = f"; collapsed and started anew: {listed(restarts)}" if restarts else ""
        notes.append(
            f"{name}: {each} training seconds{count}, without labels, on {listed(images)}; {device}{again}."
        )
    return notes


def _equal_seconds(printed: list[Printed]) -> list[str]:
    """Whether methods' headlines were given the same training time; nothing where only one was trained."""
    seconds: dict[str, list[float]] = {}
    for p in printed:
        for row in p.rows:
            if row.train_dataset and p.entry.variant == headline(p.entry.method):
                seconds.setdefault(p.entry.method, []).append(row.train_seconds)
    if len(seconds) < 2:
        return []
    means = {name: sum(values) / len(values) for name, values in seconds.items()}
    low, high = min(means.values()), max(means.values())
    if high <= EQUAL * low:
        return [
            f"The trained methods' headlines had about equal training time: {low:.0f} to {high:.0f} seconds."
        ]
    said = ", ".join(f"{name} {value:.0f}" for name, value in means.items())
    return [f"The trained methods' headlines had unequal training time, in seconds: {said}."]


def _uncertainty(printed: list[Printed]) -> list[str]:
    seeds = {row.seed: None for p in printed if p.iou_std is not None for row in p.rows}
    alone = {variant_name(p.entry): None for p in printed if len(p.rows) == 1 and p.rows[0].train_dataset}
    notes = []
    if seeds:
        notes.append(
            f"± is the standard deviation over seeds; those here: {listed(map(str, sorted(seeds)))}."
        )
    if alone:
        notes.append(f"Of one seed, so that nothing is known of its spread: {listed(alone)}.")
    return notes


def _near_floors(printed: list[Printed]) -> list[str]:
    notes = []
    for p, floor in near_floors(printed):
        name, iou = name_of(p), f"{p.iou:.1f}"
        if not is_near(p.iou, floor):
            rows = seeds_near(p, floor)
            near, every = (listed(str(row.seed) for row in of) for of in (rows, p.rows))
            name += f" (seed {near} of {every})"
            iou = listed(f"{100 * row.iou:.1f}" for row in rows)
        notes.append(
            f"Within a point of a floor: {name} on {place_of(p.entry)}, IoU {iou}, where "
            f"{floor.entry.method} has {floor.iou:.1f} without looking at the image."
        )
    return _first(notes)


def _failures(printed: list[Printed]) -> list[str]:
    return _first(
        f"{name_of(p)} failed on {row.failures} of {row.n_images} images of {place_of(p.entry)}: "
        "these are scored as empty masks."
        for p in printed
        for row in p.rows
        if row.failures
    )


def _sources(printed: list[Printed]) -> list[str]:
    """What was measured by others; and what earlier, where not all of it was."""
    lines: dict[str, dict[str, None]] = {}
    all_kept = all(row.source == KEPT for p in printed for row in p.rows)
    for p in printed:
        for row in p.rows:
            if row.source and not all_kept:
                lines.setdefault(row.source, {})[p.entry.line] = None
    return [
        f"Kept in {KEPT} from an earlier run: {listed(names)}."
        if source == KEPT
        else f"Measured by {source}: {listed(names)}."
        for source, names in lines.items()
    ]


def why_missing(table: Table, preset: str, data: Path, entry: Entry, options: Iterable[str] = ()) -> str:
    """Why an entry has no row, in a sentence with the command that changes it; data sets lie below `data`.

    `options` are further words of that command, where it was not run with the defaults.
    """
    if entry.cell(preset, 0) is None:
        if entry.method in METHODS:
            return f"{entry.method} has no variant {entry.variant!r} here"
        return "no implementation of it here"
    for name in (entry.dataset, entry.train_dataset):
        if name and not DATASETS[name].generated and not dataset_path(data, name, preset).exists():
            which = "" if name == entry.dataset else f"{name}, to train on, is "
            return f"{which}not prepared: {prepare_command(data, name, preset)}"
    if table.number not in TABLES:  # a sweep, whose own command runs it again
        return "not run yet"
    asked = ["--preset", preset, "--methods", entry.method, "--datasets", entry.dataset, *options]
    return f"not run yet: {shlex.join(['python', '-m', 'benchmarks', 'table', table.number, *asked])}"


def _reasons(table: Table, printed: list[Printed]) -> list[str]:
    """Why cells were not measured, not with every seed or not anew, each reason once."""
    in_columns = table.rivals == "columns"  # the methods, so that a line alone does not say which
    places: dict[tuple[str, str], dict[str, None]] = {}
    for p in printed:
        how = "Not with every seed" if p.status == "measured" else "Not measured"
        whole = p.reason.startswith("not prepared")
        here = f"{p.entry.column} ({p.entry.line})" if in_columns else p.entry.line
        if p.reason:
            name = DATASETS[p.entry.dataset].label if whole else here
            places.setdefault((how, p.reason), {})[name] = None
        if p.failed:
            places.setdefault(("Measured before, and failed anew", p.failed), {})[here] = None
    return _first(f"{how}, {listed(names)}: {reason}" for (how, reason), names in places.items())


def _first(notes: Iterable[str]) -> list[str]:
    found = list(notes)
    more = [f"... and {len(found) - NAMED} more such notes: see the CSV."] if len(found) > NAMED else []
    return found[:NAMED] + more


def listed(names: Iterable[str], between: str = ", ") -> str:
    """The first names, and how many more there are."""
    found = list(names)
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return between.join(found[:NAMED]) + more
