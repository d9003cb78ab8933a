"""The core needs JAX, Flax, optax, NumPy and SciPy alone: no packages of files, pages and checkpoints."""

import subprocess
import sys

CORE = (
    *("allpass", "filters", "frequency", "losses", "metrics", "params", "nets", "effects", "training.step"),
    *("effects.chain", "effects.compressor", "effects.phaser", "effects.reverb", "effects.synth"),
    *("effects.gradients", "training.fit", "training.data", "training.parallel"),
)
BLOCKED = ("soundfile", "soxr", "jinja2", "orbax", "rich", "grain", "tensorboardX", "matplotlib")


def test_core_imports_without_the_packages_of_files_and_pages():
    program = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        # Flax asks for some of these itself and does without them, or has them as requirements of its own.
        caller = sys._getframe(1)
        while caller is not None:
            if caller.f_globals.get("__name__", "").split(".")[0] == "flax":
                return None
            caller = caller.f_back
        if name.split(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
import importlib
for name in {CORE!r}:
    importlib.import_module("jaxapf." + name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
