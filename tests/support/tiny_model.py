"""Write the tiny model that the tests of a project make, from within its folder: `python tiny_model.py FOLDER`."""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, "tests")
importlib.import_module("tiny").save(Path(sys.argv[1]))
