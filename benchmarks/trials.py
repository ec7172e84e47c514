"""Where DRC's quality comes from: one setting of a budget changed at a time, on images that no table scores.

Each trial is the preset with the changes that stand in TRIALS. It is trained on TM-dSprites of another seed than the
tables' and scored on held-out images of that set, so what is chosen by it has not seen what is reported. Trials that
differ in how they infer share one training. Everything is kept below `RUNS/trials` and goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import io
import shlex
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from baselines.matching import unmatched
from benchmarks import provenance
from benchmarks.cells import Cell, settings_key
from benchmarks.charts import DPI, blank
from benchmarks.files import write_json
from benchmarks.flat import read_flat_row, read_rows, write_rows
from benchmarks.jobs import configured, fit_config, settings_of
from benchmarks.metrics import iou
from benchmarks.progress import segment_progress
from benchmarks.registry import PRESETS, TM_DSPRITES
from benchmarks.training import train
from benchmarks.uncertainty import bootstrap
from data_prep.store import PreparedDataset, open_dataset
from data_prep.tm_dsprites import TMDspritesConfig, generate

SEED = 777  # of the trials' own images; the tables' have seed 0
SCORED = 96
LENGTHS = (50, 100, 200, 800)  # steps of training
WAYS = (50, 100, 200, 600)  # steps of inference
CHAINS = (1, 2, 8)  # averaged


TRIALS: dict[str, dict[str, Any]] = {
    "as it is": {},
    **{f"{steps} training steps": {"train_steps": steps} for steps in LENGTHS},
    **{f"{steps} inference steps": {"inference_steps": steps} for steps in WAYS},
    **{f"chains averaged: {chains}": {"inference_chains": chains} for chains in CHAINS},
    "masks by responsibilities": {"inference_masks": "responsibilities"},
    "inference at one step size and without momentum": {
        "inference_step_size": 0.05, "inference_last_step_size": 0.05, "inference_momentum": 0.0,
    },
    "inference momentum 0.95": {"inference_momentum": 0.95},
    "inference steps that fall from 0.5 to 0.02": {"inference_step_size": 0.5},
    "inference steps that fall from 0.3 to 0.04": {"inference_last_step_size": 0.04},
    "masks start even": {"mask_bias": 0.0},
    "masks start at their bias alone": {"mask_gain": 0.0},
    "posterior step size 0.1": {"posterior_step_size": 0.1},
    "posterior steps that fall from 0.15 to 0.04": {"posterior_step_size": 0.15, "posterior_step_fall": 4 / 15},
    "no momentum": {"momentum": 0.0},
    "temperature 1": {"temperature": 1.0},
    "8 posterior steps a visit": {"posterior_steps": 8},
    "twice the training steps with 8 posterior steps each": {
        "posterior_steps": 8, "train_steps": lambda steps: 2 * steps,
    },
    "32 posterior steps a visit": {"posterior_steps": 32},
    "learning rate 1e-4": {"lr_generators": 1e-4},
    "learning rate 1e-3": {"lr_generators": 1e-3},
    "ten times the LEBM's learning rate": {"lr_lebm": lambda rate: 10 * rate},
    "learning rates that do not fall": {"lr_decay": 0.0},
    "a tenth of the chains start anew at each visit": {"restart": 0.1},
    "all chains start anew at each visit": {"restart": 1.0},
    "images mirrored at random": {"flips": True},
    "Gaussian likelihood": {"likelihood": "l2"},
    "responsibilities of whole pixels": {"gamma_per": "pixel"},
    "no total variation in the chains' potential": {"tv_in_e_step": False},
    "twice as many channels": {"width": lambda width: 2 * width, "start": lambda start: 2 * start},
    "four times as many channels at learning rate 1.5e-4": {
        "width": lambda width: 4 * width, "lr_generators": 1.5e-4,
    },
    "without pixel re-assignment": {"reassign": False},
    "without pixel re-assignment but with as many background numbers": {"reassign": False, "z_bg": 4 + 512},
    "untuned": {},
}  # fmt: skip


def trial_settings(name: str, preset: str) -> Any:
    """The DRCConfig of a trial under a preset."""
    variant = "untuned" if name == "untuned" else "full"
    config = configured(Cell("DRC", variant, "tm-dsprites", "tm-dsprites", "test", preset, 0))
    changes = {
        setting: value(getattr(config, setting)) if callable(value) else value
        for setting, value in TRIALS[name].items()
    }
    return dataclasses.replace(config, **changes)


def trials_of(preset: str) -> list[str]:
    """The trials that change anything under a preset, what they change it from first."""
    plain = trial_settings("as it is", preset)
    return ["as it is", *[name for name in TRIALS if trial_settings(name, preset) != plain]]


def trial_data(data: Path, preset: str) -> PreparedDataset:
    """The trials' own images at the preset's size, made on the spot; StoreError if they are damaged."""
    budget = PRESETS[preset]
    folder = data / f"tm-dsprites-trials-{budget.image_size}"
    if folder.exists():
        return open_dataset(folder)
    config = TMDspritesConfig(count=budget.train_images, heldout=SCORED, size=budget.image_size, seed=SEED)
    out = shlex.quote(str(folder))
    command = TM_DSPRITES.format(out=out, size=config.size, count=config.count, heldout=config.heldout)
    return generate(folder, config, command=f"{command} --seed {config.seed}")


def training_facts(config: Any, preset: str, seed: int, data_sha256: str) -> dict[str, Any]:
    """What a trial's training depends on."""
    return {
        "method": "DRC",
        "data": f"tm-dsprites of seed {SEED}",
        "data_sha256": data_sha256,
        "preset": preset,
        "seed": seed,
        "config": fit_config(config),
    }


def trial_key(config: Any, training: dict[str, Any]) -> tuple[str, str]:
    """The names of a trial's training and, within it, of its way to infer."""
    return settings_key(training), settings_key(settings_of(config))


NUMBERS = ("iou", "iou_low", "iou_high", "train_seconds", "segment_seconds")
COUNTS = ("seed", "images", "train_steps", "inference_steps", "inference_chains")
WORDS = ("trial", "preset", "device", "command", "commit", "key")
FIELDS: dict[str, Any] = {
    **dict.fromkeys(NUMBERS, int | float),
    **dict.fromkeys(COUNTS, int),
    **dict.fromkeys(WORDS, str),
    "versions": dict,
}
"""What a row has, and of which kind."""


def stem(preset: str) -> str:
    """What the files of a preset's trials are called: no budget's figures replace another's."""
    return "trials" if preset == "quick" else f"trials-{preset}"


def earlier_rows(results: Path, preset: str, data: Path) -> list[dict[str, Any]]:
    """The rows of RESULTS/trials.json, or of another preset's file, that the same trials would make again.

    So trials add up over sessions and machines. A row's key holds the hash of its data, which earlier versions did not
    write beside it. BenchmarkError names a file that does not hold such rows.
    """
    rows, sha256 = read_rows(results, stem(preset), FIELDS), trial_data(data, preset).sha256

    def key_now(row: dict[str, Any]) -> str:
        config = trial_settings(row["trial"], preset)
        return "-".join(trial_key(config, training_facts(config, preset, row["seed"], sha256)))

    current = [row for row in rows if row["trial"] in TRIALS and row["key"] == key_now(row)]
    return [row | {"data_sha256": sha256} for row in current]


def joined(earlier: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Earlier and new rows in the order of TRIALS; a new one takes the place of an earlier one of the same key."""
    rows = {row["key"]: row for row in (*earlier, *new)}.values()
    order = list(TRIALS)
    return sorted(rows, key=lambda row: (row["seed"], order.index(row["trial"])))


def run_trial(
    name: str, preset: str, seed: int, data: Path, runs: Path, device: str, *, compute: bool = True
) -> dict[str, Any] | None:
    """Train and score one trial, or read what was found before: a flat row; None if there is none to read.

    Raises BenchmarkError for a folder in use, and KeyboardInterrupt when stopped; the same call goes on.
    """
    config, dataset = trial_settings(name, preset), trial_data(data, preset)
    training = training_facts(config, preset, seed, dataset.sha256)
    fit, way = trial_key(config, training)
    folder = runs / "trials" / fit
    found = folder / f"row-{way}.json"
    if found.exists():
        return read_flat_row(found, FIELDS) | {"trial": name, "data_sha256": dataset.sha256}
    if not compute:
        return None
    device = provenance.resolve_device(device)
    provenance.forget_peak_memory(device)
    images = dataset.images[dataset.rows("train")[: config.train_images]]
    method, taken = train(f"DRC trains: {name}", "DRC", images, config, seed, device, folder, training)
    method.config = config  # the training may have been made for a trial that infers otherwise
    unseen, truth = dataset.images[dataset.rows("test")], dataset.masks[dataset.rows("test")] > 0
    began = time.monotonic()
    with segment_progress(f"DRC segments {len(unseen)} images: {name}") as progress:
        masks = method.segment(unseen, progress=progress)
    spent = time.monotonic() - began + method.kept_seconds
    score = bootstrap(iou(unmatched(masks, truth), truth))
    row = {
        "trial": name,
        "preset": preset,
        "iou": round(score.mean, 4),
        "iou_low": round(score.low, 4),
        "iou_high": round(score.high, 4),
        "images": len(unseen),
        **taken,
        "inference_steps": config.inference_steps,
        "inference_chains": config.inference_chains,
        "segment_seconds": round(spent, 1),
        "seed": seed,
        "data_sha256": dataset.sha256,
        **provenance.made_on(
            device, f'python -m benchmarks trials --only "{name}" --preset {preset} --seeds {seed}'
        ),
        "key": f"{fit}-{way}",
    }
    write_json(found, row)
    return row


def averaged(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each trial: the mean of its IoUs over seeds in percent, their spread, and the mean of what it took.

    `gain` is by how much it is ahead of the trial "as it is" on the seeds that both have, None where there are none;
    `alike` is whether the same device made both.
    """
    found = {}
    plain = {row["seed"]: row for row in rows if row["trial"] == "as it is"}
    for name in dict.fromkeys(row["trial"] for row in rows):
        mine = [row for row in rows if row["trial"] == name]
        ious = [100 * row["iou"] for row in mine]
        pairs = [(row, plain[row["seed"]]) for row in mine if row["seed"] in plain]
        gains = [100 * (row["iou"] - other["iou"]) for row, other in pairs]
        found[name] = {
            "iou": float(np.mean(ious)),
            "low": float(np.mean([100 * row["iou_low"] for row in mine])),
            "high": float(np.mean([100 * row["iou_high"] for row in mine])),
            "gain": float(np.mean(gains)) if gains else None,
            "alike": all(row["device"] == other["device"] for row, other in pairs),
            "std": float(np.std(ious, ddof=1)) if len(ious) > 1 else None,
            "seeds": len(ious),
            "train_steps": mine[0]["train_steps"],
            "inference_steps": mine[0]["inference_steps"],
            "inference_chains": mine[0]["inference_chains"],
            "train_seconds": float(np.mean([row["train_seconds"] for row in mine])),
            "segment_seconds": float(np.mean([row["segment_seconds"] for row in mine])),
        }
    return found


def devices_of(rows: list[dict[str, Any]]) -> str:
    """What the trials ran on; of several devices, which trials had another than the first, and what that means."""
    trials: dict[str, dict[str, None]] = {}
    for row in rows:
        trials.setdefault(row["device"], {})[f"`{row['trial']}`"] = None
    (first, _), *others = trials.items()
    ran = "; ".join([first, *(f"{device}: {', '.join(names)}" for device, names in others)])
    return f"{ran}; another device moves IoU by itself, and seconds of two do not compare" if others else ran


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """A table: what was changed, IoU, and the seconds of training and of segmenting."""
    first, lines = rows[0], []
    for name, a in averaged(rows).items():
        spread = "" if a["std"] is None else f" ± {a['std']:.1f}"
        seconds = f"{a['train_seconds']:.0f} | {a['segment_seconds']:.0f}"
        interval = f"{a['low']:.1f} to {a['high']:.1f}"
        gain = "" if name == "as it is" or a["gain"] is None else f"{a['gain']:+.1f}"
        gain += "" if a["alike"] else "†"
        lines.append(f"| {name} | {a['iou']:.1f}{spread} | {interval} | {gain} | {a['seeds']} | {seconds} |")
    return "\n".join(
        [
            "## Trials of DRC's settings",
            "",
            f"DRC under `{first['preset']}` with one setting changed at a time: IoU in percent on {first['images']} "
            f"held-out images of TM-dSprites made with seed {SEED}, which no table scores; ± over seeds, the interval "
            "95 % over images, of these seeds alone; the gain is over `as it is` with the same seeds, † where that ran "
            f"on another device; {devices_of(rows)}.",
            "",
            "| changed | IoU | over images | gain | seeds | training seconds | segmenting seconds |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *lines,
            "",
        ]
    )


def as_png(rows: list[dict[str, Any]]) -> bytes:
    """Three curves: IoU against the seconds of training, the steps of inference and the number of chains.

    The points of a curve are means over the seeds that all of them have; bars are the ends of their 95 % intervals over
    images, averaged likewise.
    """
    names = {row["trial"] for row in rows}
    curves = [
        ("train_seconds", "training, seconds", {n for n in names if n.endswith("training steps")}),
        ("inference_steps", "steps of inference", {n for n in names if n.endswith("inference steps")}),
        ("inference_chains", "chains averaged", {n for n in names if n.startswith("chains averaged")}),
    ]
    measured = {(row["trial"], row["seed"]) for row in rows}
    figure, axes = blank(1, len(curves), (10.0, 3.2))
    for axis, (what, label, changed) in zip(axes.flat, curves, strict=True):
        shown = (changed | {"as it is"}) & names
        common = [
            r for r in rows if r["trial"] in shown and all((name, r["seed"]) in measured for name in shown)
        ]
        points = sorted(
            [
                fmean(r[key] for r in common if r["trial"] == name)
                for key in (what, "iou", "iou_low", "iou_high")
            ]
            for name in {r["trial"] for r in common}
        )
        x, y, low, high = np.array(points).reshape(-1, 4).T * [[1], [100], [100], [100]]
        axis.errorbar(x, y, yerr=(y - low, high - y), marker="o", capsize=3, clip_on=False)
        seeds = ", ".join(map(str, sorted({r["seed"] for r in common})))
        if common:
            axis.set_title(f"{common[0]['preset']}, seed {seeds}, {common[0]['images']} images", fontsize=8)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:.0f}")
        axis.set(xlabel=label, ylabel="IoU, percent", ylim=(0, None))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def write(rows: list[dict[str, Any]], preset: str, results: Path) -> list[Path]:
    """trials.csv, .json, .md and .png in the results folder, under the preset's `stem`.

    BenchmarkError where it cannot be written.
    """
    return write_rows(rows, results, stem(preset), {".md": as_markdown(rows), ".png": as_png(rows)})
