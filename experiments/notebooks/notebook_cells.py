"""Where the notebooks are, and what is in them."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "experiments" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def sources(path: Path, kind: str = "code") -> list[str]:
    return ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == kind]


def cell_of(name: str, title: str) -> str:
    (code,) = [code for code in sources(FOLDER / f"{name}.ipynb") if code.startswith(f"# @title {title}")]
    return code
