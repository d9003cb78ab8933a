"""The checkpoints that come with jaxapf: what is said of them is true, and stays so when one is added."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxapf
from jaxapf.training import checkpoint, pretrained

SAID = {"what": "eight sections", "command": "python run.py", "data": "noise", "figure": ("ESR", 0.0231)}


@pytest.fixture
def place(tmp_path):
    """A folder of checkpoints that holds none yet, and a checkpoint beside it."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name, text in pretrained.EMPTY.items():
        (folder / name).write_text(text, encoding="utf-8")
    source = tmp_path / "run" / "7"
    (source / "state").mkdir(parents=True)
    (source / ".hidden").write_bytes(b"")
    (source / "state" / "data").write_bytes(bytes(range(256)))
    (source / "state" / "a-b").write_text("{}")
    (source / "meta").write_text('{"step": 7}')
    return folder


@pytest.fixture
def source(place):
    return place.parent / "run" / "7"


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_stored_checkpoints_are_what_the_manifest_says():
    assert pretrained.verify() == []
    assert pretrained.folder() == Path(jaxapf.__file__).parents[1] / "checkpoints"
    files = [p for p in pretrained.folder().rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 25e6
    names = [entry["name"] for entry in pretrained.manifest()]
    assert names == sorted(set(names))


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_git_takes_every_file_of_them():
    """A stored file that .gitignore leaves out would be missing from every clone."""
    done = subprocess.run(
        ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "."],
        cwd=pretrained.folder(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip("not in a clone")
    assert done.stdout == ""


def test_a_folder_is_stored_whole(place, source):
    before = content(source)
    entry = pretrained.add("biasnet-tape", source, **SAID, at=place)
    assert content(source) == before == content(pretrained.path("biasnet-tape", at=place))
    assert pretrained.path("biasnet-tape", at=place) == place / "biasnet-tape"
    assert entry == pretrained.manifest(at=place)[0]
    assert tuple(entry) == pretrained.FIELDS
    assert (entry["figure"], entry["bytes"]) == (
        {"name": "ESR", "value": 0.0231},
        sum(map(len, before.values())),
    )
    assert entry["jaxapf"] == jaxapf.__version__
    readme = (place / "README.md").read_text(encoding="utf-8")
    assert (
        "| [biasnet-tape](biasnet-tape) | eight sections | `python run.py` | noise | ESR 0.0231 |" in readme
    )
    assert entry["sha256"][:16] in readme
    assert pretrained.verify(at=place) == []
    assert sorted(os.listdir(place)) == ["README.md", "biasnet-tape", "manifest.json"]


def test_a_training_checkpoint_survives_being_stored(place, tmp_path):
    state = {"params": {"w": np.arange(12.0, dtype=np.float32).reshape(3, 4)}}
    with checkpoint.Checkpoints(tmp_path / "trained", config={"order": 7}) as checkpoints:
        checkpoints.save(state, {"loss": 0.5}, step=3)
    pretrained.add("trained", tmp_path / "trained", **SAID, at=place)
    folders = [p for p in (place / "trained").rglob("*") if p.is_dir()]
    assert all(any(folder.iterdir()) for folder in folders)  # git keeps no empty folder
    loaded = checkpoint.load(pretrained.path("trained", at=place), state)
    np.testing.assert_array_equal(loaded["params"]["w"], state["params"]["w"])
    assert pretrained.verify(at=place) == []  # reading has changed nothing


def test_a_file_keeps_its_suffix_and_entries_their_order(place, source):
    pretrained.add("tcn", source / "meta", **SAID, at=place)
    model = source.parent / "fit.JSON"
    model.write_text("{}")
    pretrained.add("align", model, **{**SAID, "what": "a | b\nc"}, at=place)
    assert [entry["path"] for entry in pretrained.manifest(at=place)] == ["align.json", "tcn"]
    assert "| a \\| b c |" in (place / "README.md").read_text(encoding="utf-8")
    assert pretrained.verify(at=place) == []


def test_one_of_the_same_name_is_replaced(place, source):
    pretrained.add("biasnet", source, **SAID, at=place)
    (source / "meta").write_text('{"step": 8}')
    (source / "state" / "a-b").unlink()
    pretrained.add("biasnet", source, **{**SAID, "figure": ("ESR", 0.02)}, at=place)
    assert content(place / "biasnet") == content(source)
    pretrained.add("biasnet", source / "meta", **SAID, at=place)  # a file now
    (entry,) = pretrained.manifest(at=place)
    assert entry["figure"]["value"] == 0.0231
    assert (place / "biasnet").read_text() == '{"step": 8}'
    assert pretrained.verify(at=place) == []


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="needs sha256sum")
def test_the_hash_is_what_the_readme_says(source):
    (source / "Z").write_text("capitals sort first")
    command = "find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    assert command in (pretrained.folder() / "README.md").read_text(encoding="utf-8")
    done = subprocess.run(command, shell=True, cwd=source, capture_output=True, text=True)
    assert done.stdout.split()[0] == pretrained.digest(source)
    done = subprocess.run(["sha256sum", source / "Z"], capture_output=True, text=True)
    assert done.stdout.split()[0] == pretrained.digest(source / "Z")


def test_whatever_was_changed_is_found(place, source):
    pretrained.add("biasnet", source, **SAID, at=place)
    for file in content(place / "biasnet"):
        path = place / "biasnet" / file
        kept = path.read_bytes()
        path.write_bytes(bytes([*kept[:-1], (kept or b"\0")[-1] ^ 1]))  # one bit, or one byte more
        assert "SHA-256" in pretrained.verify(at=place)[-1], file
        path.rename(path.with_name("other"))
        assert "SHA-256" in pretrained.verify(at=place)[-1], file
        path.with_name("other").rename(path)
        path.write_bytes(kept)
    assert pretrained.verify(at=place) == []

    (place / "stray").mkdir()
    assert pretrained.verify(at=place) == ["'stray' is not in the manifest"]
    (place / "stray").rmdir()

    readme = place / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(text.replace("noise", "music"), encoding="utf-8")
    assert pretrained.verify(at=place) == ["the table of README.md is not that of the manifest"]
    readme.write_text("no table", encoding="utf-8")
    assert "needs one line '<!-- checkpoints:begin -->'" in pretrained.verify(at=place)[0]
    readme.write_text(text, encoding="utf-8")

    listed = pretrained.manifest(at=place)
    listed[0]["bytes"] = 26_000_000
    (place / "manifest.json").write_text(json.dumps(listed), encoding="utf-8")
    wrong = " ".join(pretrained.verify(at=place))
    assert f"biasnet has {sum(map(len, content(source).values()))} bytes, 26000000 in the manifest" in wrong
    assert "26000000 bytes, more than 25000000" in wrong

    shutil.rmtree(place / "biasnet")
    listed[0]["bytes"] = 0
    (place / "manifest.json").write_text(json.dumps(listed), encoding="utf-8")
    readme.write_text(pretrained.updated_readme(text, listed), encoding="utf-8")
    assert pretrained.verify(at=place) == [
        f"biasnet: '{place / 'biasnet'}' does not exist; give a file, or a folder of plain files"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Bias Net"}, "name is 'Bias Net'"),
        ({"name": "../out"}, r"name is '\.\./out'"),
        ({"name": "readme"}, "neither 'readme'"),
        ({"what": " "}, "what is empty"),
        ({"command": ""}, "command is empty"),
        ({"figure": ("", 1.0)}, r"figure\[0\] is empty"),
        ({"figure": ("ESR", float("nan"))}, r"figure\[1\] is nan"),
        ({"source": "missing"}, "missing' does not exist"),
        ({"source": "empty"}, "empty' holds no file"),
        ({"source": "linked"}, "linked/link' is a symbolic link"),
        ({"source": "large"}, r"large' makes 25\.0 MB"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_changes_nothing(place, source, change, message):
    pretrained.add("biasnet", source, **SAID, at=place)
    before = content(place)
    for name in ("empty", "linked"):
        (place.parent / name).mkdir()
    (place.parent / "linked" / "link").symlink_to(source / "meta")
    with open(place.parent / "large", "wb") as file:
        file.truncate(pretrained.MAX_BYTES - 100)
    arguments = {"name": "new", **SAID, **change}
    if "source" in change:
        arguments["source"] = place.parent / change["source"]
    with pytest.raises(ValueError, match=message):
        pretrained.add(arguments.pop("name"), arguments.pop("source", source), **arguments, at=place)
    assert content(place) == before


def test_a_readme_without_markers_is_refused_before_anything_is_changed(place, source):
    (place / "README.md").write_text("no table", encoding="utf-8")
    before = content(place)
    with pytest.raises(ValueError, match=r"README\.md' cannot be updated: needs one line"):
        pretrained.add("biasnet", source, **SAID, at=place)
    assert content(place) == before
    (place / "README.md").unlink()
    with pytest.raises(ValueError, match=r"README\.md' cannot be updated: no such file"):
        pretrained.add("biasnet", source, **SAID, at=place)


def test_a_failed_copy_leaves_what_was_there(place, source, monkeypatch):
    pretrained.add("biasnet", source, **SAID, at=place)
    before = content(place)

    def half(_, target):
        Path(target).mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", half)
    with pytest.raises(ValueError, match=r"cannot be stored in .*: no space left"):
        pretrained.add("biasnet", source, **SAID, at=place)
    assert content(place) == before
    assert sorted(os.listdir(place)) == ["README.md", "biasnet", "manifest.json"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"name": "x"}]', "\xff"])
def test_a_broken_manifest_is_one_sentence(place, text):
    (place / "manifest.json").write_text(text, encoding="latin-1")
    for use in (pretrained.manifest, pretrained.verify, lambda at: pretrained.path("x", at=at)):
        with pytest.raises(ValueError, match=r"manifest\.json' cannot be read"):
            use(at=place)


def test_a_copy_of_the_package_alone_says_so(tmp_path):
    """A vendored package has no checkpoints; an installed one has them inside."""
    package = tmp_path / "jaxapf"
    source = Path(jaxapf.__file__).parent
    for name in ("__init__", "training/__init__", "training/pretrained"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / f"{name}.py", package / f"{name}.py")
    shutil.copytree(source / "_internal", package / "_internal")
    program = "from jaxapf.training.pretrained import folder\n"
    program += "try:\n print(folder())\nexcept ValueError as e:\n print(e)"

    def run():
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        return done.stdout.strip()

    assert run() == "this copy of jaxapf has no stored checkpoints; install it from its repository"
    (package / "checkpoints").mkdir()
    (package / "checkpoints" / "manifest.json").write_text(json.dumps([]))
    assert run() == str(package.resolve() / "checkpoints")
