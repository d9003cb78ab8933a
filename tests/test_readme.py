"""The README's examples run as they stand."""

import re
import shutil
from pathlib import Path

import pytest

from jaxapf import audio
from jaxapf.__main__ import main

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.split("\n")[0])
def test_python_example_runs(code, tmp_path, monkeypatch, loose_jax):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {})


def test_shell_examples_run(tmp_path, monkeypatch, capsys, loose_jax):
    monkeypatch.chdir(tmp_path)
    for name, source in zip(("dry.wav", "wet.wav"), audio.example_pair(), strict=True):
        samples, fs = audio.read(source, stop=96000)
        audio.write(tmp_path / name, samples, fs)
    shutil.copy("dry.wav", "other_take.wav")
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("jaxapf ")]
    assert len(commands) >= 4
    for line in commands:
        assert main(line.split()[1:]) == 0, (line, capsys.readouterr().err)
    for made in ("aligned.wav", "model.json", "report.html", "other_aligned.wav", "cascade.txt"):
        assert (tmp_path / made).stat().st_size > 100, made


def test_relative_links_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
