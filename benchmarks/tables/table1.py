"""Table 1: foreground extraction on the images trained on, and on held-out ones, which the paper lacks."""

from __future__ import annotations

from benchmarks.tables import ALL_CHAINS, ORACLE, VARIANT_LINES, Column, Entry, Line, Table, run_for

LINES = (
    Line("W-Net", "*"),
    Line("GrabCut"),
    Line("ReDO", "§"),
    Line("OneGAN", "*†"),
    Line("IODINE", "§"),
    Line("Slot-Attention", "§"),
    Line("DRC"),
    Line("DRC by responsibilities", "¶"),
    Line("all-foreground", section="floors"),
    Line("centred-ellipse", section="floors"),
    Line("DRC untuned", "‖", section="appendix"),
    Line("GrabCut center60", section="appendix"),
    Line("GrabCut bbox", "‡", section="appendix"),
)

COLUMNS = {
    ("birds", "all"): Column("Birds", "Birds: trained and scored on the same images, as in the paper."),
    ("dogs", "all"): Column("Dogs", "Dogs: trained and scored on the same images, as in the paper."),
    ("cars", "all"): Column("Cars", "Cars: trained and scored on the same images, as in the paper."),
    ("clevr6", "eval"): Column("CLEVR6", "CLEVR6: scored on images of the training set, as in the paper."),
    ("tm-dsprites", "eval"): Column(
        "TM-dSprites",
        "TM-dSprites (re-made: the authors' generator was never released, so that the published figures are a "
        "landmark and not the same test): scored on images of the training set, as in the paper.",
    ),
    ("tm-dsprites", "test"): Column(
        "TM-dSprites held out",
        "TM-dSprites held out: scored on images that no method was trained on; the paper has no such figure.",
    ),
}


def _entries() -> tuple[Entry, ...]:
    found = []
    for line in LINES:
        method, variant = run_for(line.label)
        for (dataset, split), column in COLUMNS.items():
            in_paper = line.section == "methods" and line.label not in VARIANT_LINES
            published = (method, "", dataset, split) if in_paper else None
            found.append(Entry(line.label, column.label, method, variant, dataset, dataset, split, published))
    return tuple(found)


TABLE = Table(
    number="1",
    title="Foreground extraction",
    lines=LINES,
    columns=tuple(COLUMNS.values()),
    entries=_entries(),
    footnotes={
        "*": "Published by Benny and Wolf, who may have trained and scored on other Dogs and Cars images; "
        "no implementation was released.",
        "§": ORACLE,
        "†": "Weakly supervised: it is given clean background images.",
        "¶": ALL_CHAINS,
        "‖": "DRC without drc-tuned, the small budgets' settings: at this size and length with the authors' own "
        "step sizes, temperature, rates and start of the masks, and one chain an image.",
        "‡": "Started from the box around the objects' true masks.",
    },
)
