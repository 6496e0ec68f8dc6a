"""Print how many bits gzip takes for a byte of the test split of a language model. A script, no test:

python tests/support/gzipped.py PACKAGE
"""

import gzip
import importlib
import sys

tokens, data = (importlib.import_module(f"{sys.argv[1]}.{name}") for name in ("tokens", "task.data"))
held_out = "".join(data.split(tokens.read_texts(None))["test"]).encode()
print(8 * len(gzip.compress(held_out, 9)) / len(held_out))
