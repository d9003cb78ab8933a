"""The notebooks as files: clean, small, alike where they should be; and the script that runs them."""

import ast
import importlib
import importlib.metadata
import importlib.util
import re
import signal
import subprocess
import sys
import time
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest

import jaxapf
from experiments.notebooks.notebook_cells import FOLDER, NOTEBOOKS, ROOT, read, sources

ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
COLAB = "https://colab.research.google.com"
BADGE = (
    f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]"
    f"({COLAB}/{ADDRESS.removeprefix('https://').replace('.com', '')}/blob/main/experiments/notebooks/{{}})"
)
SHARED = ("Install jaxapf", "Setting", "Recordings:")  # titles of cells that are the same wherever they are

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:IPython")


def run_script():
    spec = importlib.util.spec_from_file_location("notebooks_run", FOLDER / "__main__.py")
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
def test_names_of_the_package_exist(path):
    """Imports from jaxapf, and attributes of the modules that were imported."""
    imported = {}
    trees = [ast.parse(code) for code in sources(path)]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxapf"):
            for alias in node.names:
                module = importlib.import_module(node.module or "")
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                imported[alias.asname or alias.name] = getattr(module, alias.name)
        elif isinstance(node, ast.Import) and node.names[0].name == "jaxapf":
            imported["jaxapf"] = jaxapf
    modules = {name: one for name, one in imported.items() if isinstance(one, types.ModuleType)}
    assert "notebooks" in modules
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), f"{node.value.id}.{node.attr}"


@every
def test_links_lead_somewhere(path):
    for text in sources(path, "markdown"):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (FOLDER / link).exists(), link


@pytest.mark.parametrize("title", SHARED)
def test_cells_of_one_title_are_the_same_everywhere(title):
    cells = [code for path in NOTEBOOKS for code in sources(path) if code.startswith(f"# @title {title}")]
    assert len(cells) == 4
    assert len(set(cells)) == 1


@every
def test_the_setting_can_be_chosen(path):
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    run_script().with_setting(notebook, "full")
    assert sum('setting = "full"' in cell.source for cell in notebook.cells) == 1


def test_engineers_find_the_quick_start_before_installing():
    text = (ROOT / "docs" / "engineers.md").read_text(encoding="utf-8")
    linked = re.findall(r"\[([^\]]+)\]\(" + re.escape(COLAB) + r"/\S+/(\w+)\.ipynb\)", text)
    titles = {path.stem: sources(path, "markdown")[0].splitlines()[0] for path in NOTEBOOKS}
    assert linked[0][1] == "quick_start"
    assert {stem: f"# {title}" for title, stem in linked} == titles
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[headings.index("Listen") + 1] == "In the browser, without installing"


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


def test_an_install_that_fails_is_an_error(monkeypatch, capsys):
    code = next(code for code in sources(NOTEBOOKS[0]) if "Install jaxapf" in code)
    cell = {}
    exec(code.partition("\nif importlib")[0], cell)
    failed = subprocess.CompletedProcess([], 1, "", "no such place")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: failed)
    with pytest.raises(RuntimeError, match="jaxapf could not be installed from git"):
        cell["install"]("git+https://example.org/a")
    assert "no such place" in capsys.readouterr().out


# The script that runs them


def notebook_of(*codes: str):
    from nbformat import v4

    return v4.new_notebook(cells=[v4.new_code_cell(code) for code in codes])


def test_errors_and_warnings_come_with_their_cell():
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


@pytest.mark.parametrize("seconds", ["0", "-3", "1.5", "x"])
def test_impossible_limits_are_refused(seconds, capsys):
    with pytest.raises(SystemExit) as caught:
        run_script().main(["--timeout", seconds])
    assert caught.value.code == 2
    assert f"'{seconds}' is no whole number of seconds, 1 or more" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused_first(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as caught:
        run_script().main(["--save", str(tmp_path / "file" / "folder")])
    assert caught.value.code == 2
    assert "folder' cannot be written to: not a directory" in capsys.readouterr().err
    assert run_script().parse(["--save", str(tmp_path / "new")]).save.is_dir()


@pytest.mark.slow
def test_an_interrupted_script_ends_with_130():
    """At the start, where libraries are read, and while a cell runs."""
    pytest.importorskip("nbclient")
    for seconds in (1.0, 3.0, 6.0):
        command = [sys.executable, str(FOLDER / "__main__.py"), "quick_start"]
        started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        time.sleep(seconds)
        started.send_signal(signal.SIGINT)
        output, _ = started.communicate(timeout=60)
        assert (started.returncode, output) == (130, "notebooks: interrupted\n")


@pytest.mark.slow
def test_a_cell_that_fails_is_reported(tmp_path):
    pytest.importorskip("nbclient")
    script = run_script()
    notebook = notebook_of("# @title First\nimport sys; print(sys.executable)", "# @title Second\n1 / 0")
    output = script.execute(notebook, tmp_path, show=lambda text: None)
    assert output.startswith("cell 2 (Second): ZeroDivisionError: division by zero")
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
        [sys.executable, str(FOLDER / "__main__.py"), path.stem], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
