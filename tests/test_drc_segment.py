"""python -m drc segment: a user's own pictures, whatever they are, and a folder of results to rely on."""

from __future__ import annotations

import csv
import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drc_helpers import call, make_data, make_run
from PIL import Image, features

from drc import DRC
from drc.extraction import COLUMNS, OutputError, extract, segment_into
from drc.model import Regions
from drc.pictures import PictureError, find_sources, open_picture, read_picture
from drc.segment import CHAIN
from drc.sheets import figure_columns


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segment")
    return make_run(make_data(folder / "sprites"), folder / "run")


@pytest.fixture
def method(run: Path) -> DRC:
    return DRC.load(run)


def noise(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height))


def write_pictures(folder: Path, count: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        noise(i, 40 + 10 * i).save(folder / f"picture{i}.png")
    return folder


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "areas.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def mask(out: Path, name: str) -> np.ndarray:
    with Image.open(out / "masks" / f"{name}.png") as opened:
        assert opened.mode == "L"
        return np.asarray(opened)


# Reading


def test_a_turned_picture_is_set_upright(tmp_path: Path) -> None:
    lying = Image.new("RGB", (3, 2), "black")
    lying.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x112] = 6  # turn clockwise by a quarter to see it upright
    lying.save(tmp_path / "lying.png", exif=exif)
    upright = read_picture(tmp_path / "lying.png")
    assert upright.size == (2, 3)
    assert upright.getpixel((1, 0)) == (255, 0, 0)


def test_sixteen_bits_keep_their_range(tmp_path: Path) -> None:
    values = np.array([[0, 32768, 65535]], dtype=np.uint16)
    for name in ("grey.png", "grey.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert np.asarray(read_picture(tmp_path / name))[0, :, 0].tolist() == [0, 128, 255]


def test_numbers_without_a_range_get_their_own(tmp_path: Path) -> None:
    for kind in (np.int32, np.float32):
        Image.fromarray(np.array([[-7, 3, 13]], dtype=kind)).save(tmp_path / "numbers.tif")
        assert np.asarray(read_picture(tmp_path / "numbers.tif"))[0, :, 1].tolist() == [0, 128, 255]


def test_transparent_pixels_show_white(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("LA", (2, 2), (0, 51)).save(tmp_path / "faint.png")
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 255, 0, 255, 0])
    palette.save(tmp_path / "palette.gif", transparency=1)
    assert read_picture(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    assert read_picture(tmp_path / "faint.png").getpixel((0, 0)) == (204, 204, 204)
    assert read_picture(tmp_path / "palette.gif").getpixel((0, 0)) == (255, 255, 255)


def test_palettes_and_other_colour_spaces_become_rgb(tmp_path: Path) -> None:
    palette = Image.new("P", (5, 4), 1)
    palette.putpalette([0, 0, 255, 0, 255, 0])
    palette.save(tmp_path / "palette.png")
    assert read_picture(tmp_path / "palette.png").getpixel((0, 0)) == (0, 255, 0)
    for mode, name in (("1", "bits.png"), ("CMYK", "print.jpg"), ("L", "grey.bmp"), ("RGB", "colour.webp")):
        Image.new(mode, (5, 4)).save(tmp_path / name)
        assert read_picture(tmp_path / name).mode == "RGB"


def hostile(folder: Path) -> dict[str, str]:
    """What must be refused, and a word of each reason."""
    noise(0, 200, 200).save(folder / "whole.jpg", quality=95)
    content = (folder / "whole.jpg").read_bytes()
    (folder / "whole.jpg").unlink()
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (folder / "text.png").write_text("this is no picture")
    (folder / "empty.png").touch()
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    Image.fromarray(np.array([[np.nan, 1.0]], dtype=np.float32)).save(folder / "nan.tif")
    header = struct.pack("<7I44x2I4s20x16x4x", 124, 0x1007, 4, 4, 0, 0, 0, 32, 4, b"DX10")
    if features.check("avif"):
        noise(0, 64, 64).save(folder / "damaged.avif")
        content = (folder / "damaged.avif").read_bytes()
        (folder / "damaged.avif").write_bytes(content.replace(b"pitm", b"xitm"))
    (folder / "rare.dds").write_bytes(b"DDS " + header + struct.pack("<5I", 2, 3, 0, 1, 0) + bytes(64))
    return ({"damaged.avif": "decode"} if features.check("avif") else {}) | {
        "rare.dds": "DXGI",
        "truncated.jpg": "truncated",
        "text.png": "not a picture",
        "empty.png": "not a picture",
        "bomb.png": "million pixels",
        "nan.tif": "finite",
    }


def test_what_is_no_picture_is_refused_by_name(tmp_path: Path) -> None:
    for name, word in (hostile(tmp_path) | {"no.png": "no such", ".": "director", "x" * 300: "long"}).items():
        with pytest.raises(PictureError, match=word) as caught:
            read_picture(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


# Finding


def test_no_two_pictures_share_a_name(tmp_path: Path) -> None:
    places = ["a/x.png", "b/x.png", "b/X.jpg", "b/x.gif", "b/sub/x.png", "b/x.png.png", "other/b/x.png"]
    for i, place in enumerate(places):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        noise(i).save(tmp_path / place)
    paths = [tmp_path / "a", tmp_path / "b", tmp_path / "other" / "b", tmp_path / "a" / "x.png"]
    sources = find_sources(paths, tmp_path / "out", {})
    assert sorted(source.file for source in sources) == sorted(tmp_path / place for place in places)
    assert len({source.name.lower() for source in sources}) == len(places)


def test_folders_give_their_pictures_but_not_the_rest_nor_the_results(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "photos" / "deep" / "er", 1)
    noise(1).save(folder / ".hidden.png")
    (folder / "notes.txt").write_text("no picture")
    noise(2).save(tmp_path / "photos" / "LOUD.JPG")
    write_pictures(tmp_path / "photos" / "out" / "masks")
    sources = find_sources([tmp_path / "photos"], tmp_path / "photos" / "out", {})
    assert [source.name for source in sources] == ["LOUD", "deep/er/picture0"]


def test_results_that_lie_among_the_pictures_are_not_taken_for_some(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", 1)
    for folder in (photos, photos / "cut"):
        write_pictures(folder / "masks")
        noise(3).save(folder / "contact-sheet-001.png")
    for paths, out in (([photos], photos), ([*sorted(photos.glob("p*")), photos / "cut"], photos / "cut")):
        assert [s.file.name for s in find_sources(paths, out, {}) if "cut" not in s.name] == ["picture0.png"]


def test_sheets_of_an_earlier_call_with_more_pictures_do_not_stay(run: Path, tmp_path: Path) -> None:
    folder, out = write_pictures(tmp_path / "photos", COLUMNS + 1), tmp_path / "out"
    for paths, sheets in (([folder], 2), ([folder / "picture0.png"], 1)):
        assert call("segment", *paths, "--checkpoint", run, "--out", out).exit_code == 0
        assert len(list(out.glob("contact-sheet-*.png"))) == sheets
    assert len(rows(out)) == COLUMNS + 1


def test_files_keep_the_names_they_had(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "photos", 1)
    noise(7).save(folder / "picture0.gif")
    earlier = {(folder / "picture0.png").resolve(): "picture0"}
    sources = find_sources([folder], tmp_path / "out", earlier)
    assert {source.file.name: source.name for source in sources} == {
        "picture0.png": "picture0",
        "picture0.gif": "picture0.gif",
    }


# Segmenting


def test_every_picture_gets_a_mask_of_its_own_size(run: Path, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "photos")
    noise(5, 1, 1).save(folder / "one.png")
    noise(6, 7, 900).save(folder / "tall.png")
    noise(7, 1500, 20).save(folder / "wide.png")
    result = call("segment", folder, "--checkpoint", run, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    table = rows(tmp_path / "out")
    assert [row["file"] for row in table] == [str(file) for file in sorted(folder.iterdir())]
    for row in table:
        name = Path(row["file"]).stem
        pixels = mask(tmp_path / "out", name)
        with Image.open(row["file"]) as picture:
            assert picture.size == pixels.shape[::-1] == (int(row["width"]), int(row["height"]))
        assert set(np.unique(pixels)) <= {0, 255}
        assert int(row["foreground_pixels"]) == (pixels == 255).sum()
        assert float(row["foreground_share"]) == pytest.approx((pixels == 255).mean(), abs=1e-5)
        assert 0 < float(row["reconstruction_error"]) < 2
        with Image.open(tmp_path / "out" / "overlays" / f"{name}.png") as overlay:
            assert max(overlay.size) <= 1024
    with Image.open(tmp_path / "out" / "contact-sheet-001.png") as opened:
        opened.verify()


def test_what_is_refused_is_named_and_the_rest_goes_on(run: Path, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "photos")
    refused = hostile(folder)
    pictures = (folder, folder / "missing.jpg")
    result = call("segment", *pictures, "--checkpoint", run, "--out", tmp_path / "out", "--batch-size", 2)
    assert result.exit_code == 1
    assert len(rows(tmp_path / "out")) == 3
    with (tmp_path / "out" / "refused.csv").open(newline="") as lines:
        named = [Path(row["file"]).name for row in csv.DictReader(lines)]
    assert sorted(named) == sorted([*refused, "missing.jpg"])
    assert all(f"{name}: " in result.output for name in named)


def test_nothing_to_segment_is_an_error(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("this is no picture")
    for pictures in (tmp_path / "empty", tmp_path / "text.png"):
        result = call("segment", pictures, "--checkpoint", run, "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert str(pictures) in result.output


def test_the_mask_is_where_the_model_puts_the_foreground(run: Path, method: DRC, tmp_path: Path) -> None:
    image = np.asarray(noise(3, 16, 16))
    Image.fromarray(image).save(tmp_path / "small.png")
    picture = open_picture(tmp_path / "small.png", 16)
    (found,) = extract(method, [picture])
    (regions,) = method.regions(image[None], keys=[picture.key])
    assert np.array_equal(found.pi_fg, regions.pi[0, 0])
    assert np.array_equal(found.mask(), found.pi_fg > 0.5)
    assert np.array_equal(found.mask(), found.panels["mask"][..., 0] > 127)
    assert found.mask((32, 48)).shape == (48, 32)
    assert found.panels["input"].tolist() == image.tolist()
    (by_name,) = method.segment_files([tmp_path / "small.png"])
    assert np.array_equal(by_name, found.mask())


def test_the_panels_show_each_region_where_it_stands() -> None:
    def plain(red: float) -> torch.Tensor:
        return torch.full((1, 3, 2, 2), -1.0).index_fill_(1, torch.tensor(0), red)

    pi = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])[None]
    regions = Regions(*[None] * len(Regions._fields))._replace(
        pi=pi, content_fg=plain(1.0), content_bg=plain(0.0)
    )
    (column,) = figure_columns(np.zeros((1, 2, 2, 3), np.uint8), regions)
    red = {name: picture[0, :, 0].tolist() for name, picture in column.items()}
    painted = {"reconstruction": [255, 128], "foreground": [255, 0], "background": [128, 128]}
    assert red == {"input": [0, 0], **painted, "mask": [255, 0]}


def test_several_chains_are_averaged(method: DRC) -> None:
    images = np.random.default_rng(5).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    single = [
        next(method.regions(images, keys=[chain * CHAIN + row for row in range(3)])) for chain in range(4)
    ]
    method.config = replace(method.config, inference_chains=4)
    told: list[tuple[int, int]] = []
    (together,) = method.regions(images, progress=lambda step, total: told.append((step, total)))
    assert not torch.equal(single[0].pi, single[1].pi)
    torch.testing.assert_close(together.pi, torch.stack([r.pi for r in single]).mean(dim=0))
    torch.testing.assert_close(
        together.image, torch.stack([r.image for r in single]).mean(dim=0), rtol=0, atol=1e-5
    )
    steps = [step for step, _ in told]
    assert steps == sorted(set(steps))
    assert told[-1] == (4 * method.config.inference_steps,) * 2


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_a_mask_depends_on_seed_and_picture_not_on_its_company(
    method: DRC, tmp_path: Path, batch_size: int
) -> None:
    folder = write_pictures(tmp_path / "photos", 6)
    pictures = [open_picture(file, 16) for file in sorted(folder.iterdir())]
    method.config = replace(method.config, inference_steps=30, inference_chains=2)
    together = [found.pi_fg for found in extract(method, pictures)]
    method.config = replace(method.config, inference_batch_size=batch_size)
    apart = [found.pi_fg for found in extract(method, pictures[:3:-1])]
    assert np.array_equal(together[:3:-1], apart)
    method.seed = 1
    other = [found.pi_fg for found in extract(method, pictures)]
    assert np.abs(np.subtract(together, other)).max() > 0.01


def test_the_same_command_gives_the_same_files(run: Path, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "photos")
    for out in ("first", "second"):
        call("segment", folder, "--checkpoint", run, "--out", tmp_path / out, "--seed", 3, "--steps", 3)
    first = sorted(file.relative_to(tmp_path / "first") for file in (tmp_path / "first").rglob("*.*"))
    assert len(first) == 3 * 3 + 4
    for file in first:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file
    settings = json.loads((tmp_path / "first" / "settings.json").read_text())
    assert settings["seed"] == 3
    assert settings["config"]["inference_steps"] == 3


def test_a_stop_keeps_what_is_done_and_the_same_command_goes_on(
    run: Path, method: DRC, tmp_path: Path
) -> None:
    folder, out = write_pictures(tmp_path / "photos", 5), tmp_path / "out"
    method.config = replace(method.config, inference_batch_size=2)
    sources, batches = find_sources([folder], out, {}), []

    def stop(step: int, total: int) -> None:
        batches.append(step)
        if len(batches) == 3:  # in the second batch: there are two reports a batch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_into(method, sources, out, progress=stop)
    assert [row["mask"] for row in rows(out)] == ["masks/picture0.png", "masks/picture1.png"]
    times = {row["mask"]: (out / row["mask"]).stat().st_mtime_ns for row in rows(out)}
    (out / "masks" / "picture1.png").unlink()
    (folder / "picture4.png").unlink()
    result = call("segment", folder, "--checkpoint", run, "--out", out)
    assert result.exit_code == 0
    assert len(rows(out)) == 4
    assert (out / "masks" / "picture0.png").stat().st_mtime_ns == times["masks/picture0.png"]
    assert (out / "masks" / "picture1.png").exists()


def test_a_picture_that_has_changed_is_segmented_again(run: Path, tmp_path: Path) -> None:
    folder, out = write_pictures(tmp_path / "photos"), tmp_path / "out"
    call("segment", folder, "--checkpoint", run, "--out", out)
    noise(9, 90, 90).save(folder / "picture0.png")
    call("segment", folder, "--checkpoint", run, "--out", out)
    assert mask(out, "picture0").shape == (90, 90)
    assert [row["width"] for row in rows(out)] == ["90", "50", "60"]


def test_results_of_other_settings_are_not_mixed(run: Path, method: DRC, tmp_path: Path) -> None:
    folder, out = write_pictures(tmp_path / "photos"), tmp_path / "out"
    command = ["segment", folder, "--checkpoint", run, "--out", out]
    assert call(*command, "--batch-size", 2).exit_code == 0
    assert call(*command, "--batch-size", 3).exit_code == 0
    for option in ("--seed=1", "--steps=2", "--chains=2"):
        result = call(*command, option)
        assert result.exit_code == 2
        assert "another folder" in result.output
    next(iter(method.model.parameters())).data += 1
    with pytest.raises(OutputError):
        segment_into(method, [], out)


def test_a_damaged_table_or_settings_file_does_no_harm(run: Path, tmp_path: Path) -> None:
    folder, out = write_pictures(tmp_path / "photos"), tmp_path / "out"
    command = ["segment", folder, "--checkpoint", run, "--out", out]
    call(*command)
    whole = rows(out)
    for damage in (b"something else\n1,2\n", "é".encode("latin-1")):
        (out / "areas.csv").write_bytes(damage)
        assert call(*command).exit_code == 0
        assert rows(out) == whole
    settings = json.loads((out / "settings.json").read_text())
    assert settings["config"].pop("flips") is False  # as a version before that setting wrote it
    (out / "settings.json").write_text(json.dumps(settings))
    assert call(*command).exit_code == 0
    (out / "settings.json").write_text("{")
    assert call(*command).exit_code == 2


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "photos")
    result = call("segment", folder, "--checkpoint", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "nowhere" in result.output
    assert not (tmp_path / "out").exists()


def test_the_newest_sound_checkpoint_is_used(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (copy / "checkpoints" / "step-00000009.pt").write_bytes(b"cut short")
    folder = write_pictures(tmp_path / "photos")
    for checkpoint, out in ((run, "first"), (copy, "second")):
        assert call("segment", folder, "--checkpoint", checkpoint, "--out", tmp_path / out).exit_code == 0
    assert np.array_equal(mask(tmp_path / "first", "picture0"), mask(tmp_path / "second", "picture0"))
