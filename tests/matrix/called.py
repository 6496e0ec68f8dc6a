"""The program of a fork that calls a function for `pool`; its argument is where the call lies."""

import pickle
import sys
from pathlib import Path

if __name__ == "__main__":
    pickle.loads(Path(sys.argv[1]).read_bytes())()
