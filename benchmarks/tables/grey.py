"""Grey sprites on grey gratings: colour tells nothing of where a sprite is. The paper has no such table."""

from __future__ import annotations

from benchmarks.tables import ALL_CHAINS, Column, Entry, Line, Table, run_for

LINES = (
    Line("GrabCut"),
    Line("ReDO"),
    Line("IODINE"),
    Line("Slot-Attention"),
    Line("DRC"),
    Line("DRC by responsibilities", "¶"),
    Line("all-foreground", section="floors"),
    Line("centred-ellipse", section="floors"),
    Line("DRC w/o pixel re-assignment", section="appendix"),
)
COLUMNS = {
    "eval": Column("Grey sprites", "Grey sprites: scored on images of the training set."),
    "test": Column("Grey sprites held out", "Held out: scored on images that no method was trained on."),
}

TABLE = Table(
    number="grey",
    title="Grey sprites on grey gratings",
    lines=LINES,
    columns=tuple(COLUMNS.values()),
    entries=tuple(
        Entry(
            line.label,
            column.label,
            *run_for(line.label),
            train_dataset="tm-dsprites-grey",
            dataset="tm-dsprites-grey",
            split=split,
        )
        for line in LINES
        for split, column in COLUMNS.items()
    ),
    footnotes={"¶": ALL_CHAINS},
)
