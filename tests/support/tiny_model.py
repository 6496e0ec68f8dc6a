"""Write the tiny model of the tests of a project, in whose folder this runs: `tiny_model.py FOLDER`."""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, "tests")
importlib.import_module("tiny").save(Path(sys.argv[1]))
