"""The README's examples run as they stand."""

import re
import shutil
from pathlib import Path

import pytest

from jaxapf import audio, cli, datasets
from jaxapf.__main__ import main

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.split("\n")[0])
def test_python_example_runs(code, tmp_path, monkeypatch, loose_jax):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {})


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if line.startswith("jaxapf ")]


@pytest.fixture
def takes(tmp_path, monkeypatch, loose_jax):
    """The files that the examples name, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name, source in zip(("dry.wav", "wet.wav"), datasets.example_pair(), strict=True):
        samples, fs = audio.read(source, stop=96000)
        audio.write(tmp_path / name, samples, fs)
    shutil.copy("dry.wav", "other_take.wav")


def check(lines: list[str], made: tuple[str, ...], capsys) -> None:
    for line in lines:
        assert main(line.split()[1:]) == 0, (line, capsys.readouterr().err)
    for name in made:
        assert Path(name).stat().st_size > 100, name


def test_shell_examples_run(takes, capsys):
    lines = commands()
    assert len(lines) >= 2
    check(lines, ("aligned.wav", "model.json", "report.html", "other_aligned.wav"), capsys)


def test_shell_examples_are_commands():
    for line in commands():
        assert callable(cli.parse(line.split()[1:]).run)


def test_relative_links_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_it_is_short():
    assert README.stat().st_size <= 8000
