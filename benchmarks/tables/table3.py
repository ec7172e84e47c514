"""Table 3: images trained on beside held-out images; and the same on TM-dSprites, which needs no preparation."""

from __future__ import annotations

from benchmarks.tables import ALL_CHAINS, ORACLE, STAND_IN, VARIANT_LINES, Column, Entry, Line, Table, run_for

LINES = (
    Line("GrabCut", "*"),
    Line("ReDO", "§"),
    Line("DRC"),
    Line("DRC by responsibilities", "¶"),
    Line("all-foreground", section="floors"),
    Line("centred-ellipse", section="floors"),
)

PAPER = {
    (f"{name}-split", split): Column(f"{name.capitalize()} {split}")
    for name in ("birds", "dogs", "cars")
    for split in ("train", "test")
}
OURS = {
    ("tm-dsprites", "eval"): Column("TM-dSprites train"),
    ("tm-dsprites", "test"): Column("TM-dSprites test"),
}


def _entries() -> tuple[Entry, ...]:
    found = []
    for line in LINES:
        for (dataset, split), column in (PAPER | OURS).items():
            stand_in = (dataset, split) in OURS
            in_paper = not stand_in and line.label not in VARIANT_LINES
            published = (line.label, "", dataset.removesuffix("-split"), split) if in_paper else None
            found.append(
                Entry(
                    line.label,
                    column.label,
                    *run_for(line.label),
                    train_dataset=dataset,
                    dataset=dataset,
                    split=split,
                    published=published,
                    block=STAND_IN if stand_in else "",
                )
            )
    return tuple(found)


TABLE = Table(
    number="3",
    title="Images trained on and held-out images",
    lines=LINES,
    columns=(*PAPER.values(), *OURS.values()),
    entries=_entries(),
    footnotes={
        "*": "Not trained: what it scores on both is for reference.",
        "§": ORACLE,
        "¶": ALL_CHAINS,
    },
)
