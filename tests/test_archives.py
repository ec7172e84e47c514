"""Archives are unpacked with care, and refused by name when they are hostile or damaged."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from data_prep.archives import Scratch, locate
from data_prep.errors import SourceError


def make_tar(path: Path, files: dict[str, bytes], *extra: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info in extra:
            tar.addfile(info)
    return path


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in files.items():
            opened.writestr(name, data)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x.txt": b"one"})
    (tmp_path / "file").write_text("x")
    with Scratch(tmp_path / "file" / "out") as scratch, pytest.raises(SourceError) as caught:
        scratch.open(archive)
    assert f"{tmp_path / 'file'} cannot be written" in str(caught.value)
    assert "choose another --out" in str(caught.value)


@pytest.mark.parametrize("ending", [".tgz", ".tar", ".zip"])
def test_contents_come_out_and_go_away(tmp_path: Path, ending: str) -> None:
    make = make_zip if ending == ".zip" else make_tar
    archive = make(tmp_path / f"a{ending}", {"top/x.txt": b"one", "top/deep/y.txt": b"two"})
    with Scratch(tmp_path / "out") as scratch:
        folder = scratch.open(archive)
        assert locate(folder, "x.txt").read_bytes() == b"one"
        assert (folder / "top/deep/y.txt").read_bytes() == b"two"
        assert folder.is_relative_to(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [archive.name]


def test_folders_are_used_as_they_are(tmp_path: Path) -> None:
    with Scratch(tmp_path / "out") as scratch:
        assert scratch.open(tmp_path) == tmp_path
        with pytest.raises(SourceError, match="does not exist"):
            scratch.open(tmp_path / "nothing")
        (tmp_path / "a.txt").write_text("x")
        with pytest.raises(SourceError, match="neither a folder nor an archive"):
            scratch.open(tmp_path / "a.txt")
        with pytest.raises(SourceError, match=r"neither the folder Images nor images\.tar"):
            scratch.part(tmp_path, "Images", "images.tar")
        make_tar(tmp_path / "images.tar", {"Images/a.jpg": b"1"})
        assert (scratch.part(tmp_path, "Images", "images.tar") / "a.jpg").is_file()


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt", "c:/evil.txt"]
)
@pytest.mark.parametrize("ending", [".tar", ".zip"])
def test_members_that_lead_outside(tmp_path: Path, name: str, ending: str) -> None:
    make = make_zip if ending == ".zip" else make_tar
    archive = make(tmp_path / f"a{ending}", {"good.txt": b"x", name: b"evil"})
    with Scratch(tmp_path / "in" / "out") as scratch, pytest.raises(SourceError, match="leads outside"):
        scratch.open(archive)
    assert not list(tmp_path.rglob("evil*"))


def test_a_colon_in_a_name_leads_nowhere(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"shots/2021-05-01 12:30:00.png": b"x"})
    with Scratch(tmp_path / "out") as scratch:
        assert (scratch.open(archive) / "shots" / "2021-05-01 12:30:00.png").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (special("a", tarfile.SYMTYPE, "/etc/passwd"), "a link"),
        (special("a", tarfile.LNKTYPE, "good.txt"), "a link"),
        (special("a", tarfile.CHRTYPE), "a device"),
        (special("a", tarfile.BLKTYPE), "a device"),
        (special("a", tarfile.FIFOTYPE), "a device or pipe"),
    ],
)
def test_links_and_devices(tmp_path: Path, info: tarfile.TarInfo, message: str) -> None:
    archive = make_tar(tmp_path / "a.tar", {"good.txt": b"x"}, info)
    with Scratch(tmp_path / "out") as scratch, pytest.raises(SourceError, match=f"holds {message}"):
        scratch.open(archive)


def test_link_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        opened.writestr(info, "/etc/passwd")
    with Scratch(tmp_path / "out") as scratch, pytest.raises(SourceError, match="holds a link"):
        scratch.open(tmp_path / "a.zip")


@pytest.mark.parametrize("ending", [".tgz", ".zip"])
def test_bomb(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.archives.SMALL", 2**20)
    make = make_zip if ending == ".zip" else make_tar
    archive = make(tmp_path / f"a{ending}", {"zeros": bytes(30 * 2**20)})
    assert archive.stat().st_size < 2**16
    with Scratch(tmp_path / "out") as scratch, pytest.raises(SourceError, match="zip bomb"):
        scratch.open(archive)
    assert [file.name for file in tmp_path.iterdir()] == [archive.name]


@pytest.mark.parametrize("ending", [".tgz", ".tar", ".zip"])
def test_cut_short(tmp_path: Path, ending: str) -> None:
    make = make_zip if ending == ".zip" else make_tar
    archive = make(tmp_path / f"a{ending}", {f"{i}.bin": os.urandom(3000) for i in range(5)})
    archive.write_bytes(archive.read_bytes()[:7000])
    with Scratch(tmp_path / "out") as scratch, pytest.raises(SourceError, match="cut short or damaged"):
        scratch.open(archive)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        tar.addfile(tarfile.TarInfo("caf\xe9.jpg"), io.BytesIO())
    with Scratch(tmp_path / "out") as scratch, pytest.raises(SourceError, match="not UTF-8"):
        scratch.open(tmp_path / "a.tar")


@pytest.mark.parametrize("ending", [".tgz", ".tar"])
def test_bombs_of_headers(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of megabytes and a crowd of empty files weigh nothing in contents, but they are counted."""
    monkeypatch.setattr("data_prep.archives.SMALL", 2**20)
    monkeypatch.setattr("data_prep.archives.MAX_SWELL", 0)
    long_name = make_tar(tmp_path / f"a{ending}", {"x" * 2**21: b""})
    crowd = make_tar(tmp_path / f"b{ending}", {f"{i}": b"" for i in range(3000)})
    for archive in (long_name, crowd):
        with Scratch(tmp_path / "out") as scratch, pytest.raises(SourceError, match="zip bomb"):
            scratch.open(archive)


def test_a_flipped_byte_in_what_gzip_packed(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tgz", {"x.bin": os.urandom(5000)})
    damaged = bytearray(archive.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    archive.write_bytes(damaged)
    with Scratch(tmp_path / "out") as scratch, pytest.raises(SourceError, match="cut short or damaged"):
        scratch.open(archive)


def test_cut_between_two_files(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", {"x.bin": os.urandom(512), "y.bin": os.urandom(512)})
    archive.write_bytes(archive.read_bytes()[: 1024 + 100])
    with Scratch(tmp_path / "out") as scratch, pytest.raises(SourceError, match="cut short or damaged"):
        scratch.open(archive)


@pytest.mark.parametrize("ending", [".tgz", ".tar"])
def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path, ending: str) -> None:
    files = {f"{i}.bin": os.urandom(512) for i in range(4)}
    sound = make_tar(tmp_path / "sound.tar", files).read_bytes()
    for fill in (b"x" * 8, bytes(512)):  # a check sum that is wrong, and no header at all
        spoilt = sound[:2048] + fill + sound[2048 + len(fill) :]
        archive = tmp_path / f"a{ending}"
        archive.write_bytes(gzip.compress(spoilt) if ending == ".tgz" else spoilt)
        with Scratch(tmp_path / "out") as scratch, pytest.raises(SourceError, match="cut short or damaged"):
            scratch.open(archive)


def test_archives_one_behind_the_other_are_one(tmp_path: Path) -> None:
    parts = [make_tar(tmp_path / f"{name}.tar", {name: name.encode()}) for name in "xy"]
    (tmp_path / "both.tar").write_bytes(b"".join(part.read_bytes() for part in parts))
    with Scratch(tmp_path / "out") as scratch:
        folder = scratch.open(tmp_path / "both.tar")
        assert {file.name: file.read_text() for file in folder.iterdir()} == {"x": "x", "y": "y"}


@pytest.mark.parametrize("ending", [".tgz", ".tar", ".zip"])
@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_file_and_a_folder_of_one_name(tmp_path: Path, names: tuple[str, str], ending: str) -> None:
    make = make_zip if ending == ".zip" else make_tar
    archive = make(tmp_path / f"a{ending}", dict.fromkeys(names, b"x"))
    with Scratch(tmp_path / "out") as scratch, pytest.raises(SourceError, match="a file and a folder of one"):
        scratch.open(archive)


def test_a_fault_in_an_archive_names_the_archive(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tgz", {"top/x.txt": b"one"})
    with Scratch(tmp_path / "out") as scratch:
        folder = scratch.open(archive)
        assert scratch.named(f"{folder}/x is bad, {folder} too") == f"{archive}: x is bad, {archive} too"
    with pytest.raises(SourceError) as caught, Scratch(tmp_path / "out") as scratch:
        locate(scratch.open(archive), "y.txt")
    assert str(caught.value).startswith(f"{archive} has no y.txt")


def test_odd_headers(tmp_path: Path) -> None:
    sparse = tarfile.TarInfo("x")
    sparse.pax_headers = {"GNU.sparse.map": "a,b", "GNU.sparse.size": "1"}
    make_tar(tmp_path / "a.tar", {}, sparse)
    make_zip(tmp_path / "b.zip", {"n\u00e4me": b"x"})
    (tmp_path / "b.zip").write_bytes(
        (tmp_path / "b.zip").read_bytes().replace("n\u00e4me".encode(), b"n\xff\xffme")
    )
    with Scratch(tmp_path / "out") as scratch:
        for name in ("a.tar", "b.zip"):
            with pytest.raises(SourceError, match="damaged"):
                scratch.open(tmp_path / name)


def test_a_sparse_file_that_swells_out_of_its_header_is_refused(tmp_path: Path) -> None:
    """Its holes are no bytes of the archive, so that no limit on what is unpacked would see them."""
    sparse = tarfile.TarInfo("hole.bin")
    sparse.pax_headers = {"GNU.sparse.map": "419430400,0", "GNU.sparse.size": "419430400"}
    archive = make_tar(tmp_path / "a.tar", {}, sparse)
    assert archive.stat().st_size < 20_000
    with Scratch(tmp_path / "out") as scratch, pytest.raises(SourceError, match=r"a sparse file.*hole\.bin"):
        scratch.open(archive)
    assert not list((tmp_path / "out").rglob("hole.bin"))


def test_what_an_interrupted_run_had_unpacked_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = tmp_path / ".out.unpacked-x"
    left.mkdir()
    with Scratch(tmp_path / "out"):
        assert f"{left} was left by an interrupted run; delete it" in caplog.text
    assert left.exists()
