"""The notebooks: clean, small, alike where they should be, and what they are made of."""

import base64
import importlib.metadata
import importlib.util
import io
import json
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jaxapf import audio, notebooks, tracking
from jaxapf.report import plots

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "experiments" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
COLAB = "https://colab.research.google.com"
BADGE = (
    f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]"
    f"({COLAB}/{ADDRESS.removeprefix('https://').replace('.com', '')}/blob/main/experiments/notebooks/{{}})"
)
SHARED = ("Install jaxapf", "Setting", "Recordings:")  # titles of cells that are the same wherever they are

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:IPython")


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def sources(path: Path, kind: str = "code") -> list[str]:
    return ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == kind]


def run_script():
    spec = importlib.util.spec_from_file_location("notebooks_run", FOLDER / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_four():
    assert [path.stem for path in NOTEBOOKS] == [
        "biasnet",
        "quick_start",
        "scan_against_sampling",
        "tcn_data_parallel",
    ]


@every
def test_is_clean_and_small(path):
    assert path.stat().st_size < 60_000
    for cell in read(path)["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@every
def test_is_a_valid_notebook(path):
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(read(path))
    assert read(path)["nbformat"] == 4
    ids = [cell["id"] for cell in read(path)["cells"]]
    assert len(set(ids)) == len(ids)


@every
def test_starts_with_title_badge_and_what_to_expect(path):
    first = sources(path, "markdown")[0]
    assert first.startswith("# ")
    assert BADGE.format(path.name) in first
    assert "Runtime > Run all" in first
    assert "minute" in first


@every
def test_runs_in_the_kernel_that_colab_and_jupyter_have(path):
    metadata = read(path)["metadata"]
    assert metadata["kernelspec"] == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert metadata.get("accelerator") == ("TPU" if path.stem == "tcn_data_parallel" else None)


@every
def test_names_no_place_but_the_repository(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(tmp|work|home|root|Users)/", text)
    places = set(re.findall(r"https://[\w.]+", text))
    assert places <= {"https://github.com", COLAB, "https://arxiv.org"}
    assert set(re.findall(r"https://github\.com[\w/-]+", text)) == {ADDRESS}


@every
def test_code_compiles_and_is_folded(path):
    for cell in read(path)["cells"]:
        if cell["cell_type"] == "code":
            code = "".join(cell["source"])
            compile(code, path.name, "exec")
            assert code.startswith("# @title ")
            assert cell["metadata"]["cellView"] == "form"


@every
def test_links_lead_somewhere(path):
    for text in sources(path, "markdown"):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (FOLDER / link).exists(), link


@pytest.mark.parametrize("title", SHARED)
def test_cells_of_one_title_are_the_same_everywhere(title):
    cells = [code for path in NOTEBOOKS for code in sources(path) if code.startswith(f"# @title {title}")]
    assert len(cells) >= (3 if title == "Recordings:" else 4)
    assert len(set(cells)) == 1


@every
def test_the_setting_can_be_chosen(path):
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    run_script().with_setting(notebook, "full")
    assert sum('setting = "full"' in cell.source for cell in notebook.cells) == 1


def test_installing_keeps_every_version(monkeypatch):
    """The cell's own function, with pip replaced by one that looks at what it is given."""
    code = next(code for code in sources(NOTEBOOKS[0]) if "Install jaxapf" in code)
    given = {}

    def distribution(name, version):
        return types.SimpleNamespace(metadata={"Name": name}, version=version)

    # Debian's own numbers, and what lies behind the package that is imported.
    odd = [
        distribution("python-debian", "0.1.43ubuntu1"),
        distribution("numpy", "1.0"),
        distribution(None, "1"),
    ]
    real = list(importlib.metadata.distributions())
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: real + odd)

    def pip(command, **options):
        given["command"] = command
        given["kept"] = Path(command[command.index("-c") + 1]).read_text().split()
        return subprocess.CompletedProcess(command, 0, "", "")

    cell = {}
    exec(code.partition("\nif importlib")[0], cell)
    monkeypatch.setattr(subprocess, "run", pip)
    cell["install"]("git+https://example.org/a")
    assert given["command"][-1] == "jaxapf[plot] @ git+https://example.org/a"
    assert given["command"][given["command"].index("--upgrade-strategy") + 1] == "only-if-needed"
    assert f"numpy=={np.__version__}" in given["kept"]
    assert f"jax=={importlib.metadata.version('jax')}" in given["kept"]
    assert len(given["kept"]) == len({one.partition("==")[0] for one in given["kept"]})
    assert not any("debian" in one for one in given["kept"])


def test_an_install_that_fails_says_so(monkeypatch, capsys):
    code = next(code for code in sources(NOTEBOOKS[0]) if "Install jaxapf" in code)
    cell = {}
    exec(code.partition("\nif importlib")[0], cell)
    failed = subprocess.CompletedProcess([], 1, "", "no such place")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: failed)
    with pytest.raises(RuntimeError, match="jaxapf could not be installed from git"):
        cell["install"]("git+https://example.org/a")
    assert "no such place" in capsys.readouterr().out


# What they are made of


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, as HTML or Markdown."""
    pytest.importorskip("IPython")
    seen = []

    class Handle:
        def update(self, thing):
            seen.append(thing.data)

    def display(*things, **options):
        seen.extend(thing.data for thing in things)
        return Handle()

    monkeypatch.setattr(notebooks, "display", display)
    return seen


def write(folder: Path, name: str, x: np.ndarray, fs: int) -> str:
    audio.write(folder / name, x, fs)
    return str(folder / name)


def test_own_files_are_brought_together(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    dry = write(tmp_path, "dry.wav", np.stack([tone, 0 * tone]), 8000)
    wet = write(tmp_path, "wet.wav", np.sin(2 * np.pi * 440 * np.arange(12000) / 16000)[None], 16000)
    pair = notebooks.recordings(notebooks.OWN, dry, f" {wet} ")
    assert pair.fs == 16000
    assert pair.dry.shape == pair.wet.shape == (1, 12000)
    inside = slice(500, 11500)
    np.testing.assert_allclose(pair.dry[0, inside], 0.5 * pair.wet[0, inside], atol=2e-3)


def test_mistakes_are_one_sentence_without_a_traceback(tmp_path):
    for arguments, said in (
        (("other",), "none of the choices"),
        ((notebooks.OWN,), "the dry recording has no name"),
        ((notebooks.OWN, tmp_path / "none.wav", "b.wav"), "does not exist"),
    ):
        with pytest.raises(notebooks.Mistake, match=said) as caught:
            notebooks.recordings(*arguments)
        assert caught.value._render_traceback_() == [str(caught.value)]
        assert str(caught.value).endswith(".")


def test_players_are_equally_loud_and_keep_what_differs(shown):
    fs = 8000
    x = np.random.default_rng(0).standard_normal(2 * fs) * 0.1
    notebooks.listen({"<loud>": x, "soft": 0.1 * x}, fs, start_s=0.5, seconds=1.0)
    assert "&lt;loud&gt;" in shown[0]
    played = [
        soundfile.read(io.BytesIO(base64.b64decode(data)))[0]
        for data in re.findall(r"base64,([^\"]+)", shown[0])
    ]
    assert [len(one) for one in played] == [fs, fs]
    np.testing.assert_allclose(played[0], played[1], atol=1e-4)
    gains = [float(one) for one in re.findall(r"([+-]\d+\.\d) dB", shown[0])]
    assert gains[1] - gains[0] == pytest.approx(20, abs=0.11)


def test_listening_beyond_the_end_is_refused(shown):
    with pytest.raises(notebooks.Mistake, match="'x' ends before 9 s"):
        notebooks.listen({"x": np.ones(10)}, 10, start_s=9.0)


def test_progress_is_one_line_and_lets_others_through(shown, capsys, monkeypatch):
    monkeypatch.setattr(notebooks, "REDRAWN_S", 0.0)
    with notebooks.progress("Training"), tracking.progress(10) as show:
        show({"step": 5, "loss": 0.25})
        print("a warning", file=sys.stderr)
    assert shown[0] == "<code>Training …</code>"
    assert any("step 5/10" in one and "loss 0.25" in one for one in shown)
    assert re.fullmatch(r"<code>Training: done in \d+ s</code>", shown[-1])
    assert "a warning" in capsys.readouterr().err


def test_progress_says_that_it_was_stopped(shown):
    with pytest.raises(KeyError), notebooks.progress("Training"):
        raise KeyError
    assert "stopped after" in shown[-1]


def test_redrawing_is_rare(shown):
    with notebooks.progress("Training"), tracking.progress(1000) as show:
        for step in range(1000):
            show({"step": step})
    assert len(shown) < 30


def delayed_pair():
    x = np.random.default_rng(0).standard_normal((1, 48000))
    return x, np.concatenate([np.zeros((1, 24)), x[:, :-24]], axis=-1)


def test_the_mix_says_where_it_cancels(shown):
    dry, wet = delayed_pair()  # by half a millisecond: the notch lies at 1 kHz
    notebooks.show_mix(dry, wet, wet, 48000.0)
    compared = plots.compare(dry, wet, wet, 48000.0)
    worst = int(np.nanargmin(compared.mix_before_db))
    assert compared.freqs_hz[worst] == pytest.approx(1000, rel=0.1)
    said = f"cancel by up to {-compared.mix_before_db[worst]:.1f} dB (at {compared.freqs_hz[worst]:.0f} Hz)"
    assert said in shown[0]
    assert "at most 0.0 dB" in shown[0]
    assert shown[0].count("base64,iVBOR") == 1  # a PNG


def test_tables_escape_and_leave_gaps(shown):
    notebooks.table([{"a<b": 1, "c": 0.123456}, {"c": "<i>"}])
    assert "a&lt;b" in shown[0]
    assert "0.1235" in shown[0]
    assert "&lt;i&gt;" in shown[0]


def test_results_lie_beside_the_notebook(shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = notebooks.result("model.json")
    with pytest.raises(notebooks.Mistake, match="run the cells above first"):
        notebooks.offer(path)
    path.write_text("{}")
    notebooks.offer(path)
    assert 'href="results/model.json"' in shown[-1]
    page = tmp_path / "page.html"
    page.write_text("<p>\"quoted\" & 'so'</p>")
    notebooks.page(page)
    assert "&lt;p&gt;&quot;quoted&quot; &amp;" in shown[-1]


@pytest.fixture
def colab(monkeypatch):
    """Colab's module for files, which gives the files in `chosen` and keeps what is downloaded."""
    chosen, downloaded = [], []
    files = types.SimpleNamespace(
        upload=lambda: {str(name): b"" for name in chosen.pop(0)}, download=downloaded.append
    )
    module = types.ModuleType("google.colab")
    module.files = files  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "google.colab", module)
    return types.SimpleNamespace(chosen=chosen, downloaded=downloaded)


def test_colab_asks_for_the_files_that_have_no_name(colab, tmp_path, capsys):
    dry = write(tmp_path, "dry.wav", np.full((1, 100), 0.5), 8000)
    wet = write(tmp_path, "wet.wav", np.full((1, 80), 0.25), 8000)
    colab.chosen += [[dry], [wet]]
    pair = notebooks.recordings(notebooks.OWN)
    np.testing.assert_allclose(pair.dry, np.full((1, 80), 0.5), atol=1e-4)
    np.testing.assert_allclose(pair.wet, np.full((1, 80), 0.25), atol=1e-4)
    assert capsys.readouterr().out.split("\n")[:2] == [
        "Choose the dry recording:",
        "Choose the wet recording:",
    ]
    colab.chosen += [[dry, wet]]
    with pytest.raises(notebooks.Mistake, match="2 files were chosen as the dry recording"):
        notebooks.recordings(notebooks.OWN)


def test_colab_downloads_only_what_is_wanted(colab, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = notebooks.result("a.txt")
    path.write_text("a")
    notebooks.offer(path)
    assert colab.downloaded == []
    notebooks.offer(path, download=True)
    assert colab.downloaded == [str(path)]


def test_importing_jaxapf_imports_no_ipython():
    code = "import sys, jaxapf.notebooks; sys.exit(bool({'IPython', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The script that runs them


def notebook_of(*codes: str):
    from nbformat import v4

    return v4.new_notebook(cells=[v4.new_code_cell(code) for code in codes])


def test_errors_and_warnings_are_told_with_their_cell():
    nbformat = pytest.importorskip("nbformat")
    script, notebook = run_script(), notebook_of("# @title First\n1", "# @title Second\n2")
    notebook.cells[1].outputs = [
        nbformat.v4.new_output("stream", name="stderr", text="a.py:1: DeprecationWarning: old\n  x\n")
    ]
    assert script.warnings_of(notebook) == ["cell 2 (Second) warns: a.py:1: DeprecationWarning: old"]


def test_unknown_notebooks_are_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        run_script().main(["other"])
    assert caught.value.code == 2
    assert "'other' is no notebook" in capsys.readouterr().err


@pytest.mark.slow
def test_a_cell_that_fails_is_told(tmp_path):
    pytest.importorskip("nbclient")
    script = run_script()
    notebook = notebook_of("# @title First\nimport sys; print(sys.executable)", "# @title Second\n1 / 0")
    said = script.execute(notebook, tmp_path, show=lambda text: None)
    assert said.startswith("cell 2 (Second): ZeroDivisionError: division by zero")
    assert notebook.cells[0].outputs[0].text.strip() == sys.executable
    warns = notebook_of("import warnings; warnings.warn('so old', DeprecationWarning)")
    assert "DeprecationWarning: so old" in script.execute(warns, tmp_path, show=lambda text: None)


@pytest.mark.slow
@every
def test_runs_from_top_to_bottom(path):
    pytest.importorskip("nbclient")
    pytest.importorskip("nbconvert")
    pytest.importorskip("ipykernel")
    found = subprocess.run(
        [sys.executable, str(FOLDER / "run.py"), path.stem], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
