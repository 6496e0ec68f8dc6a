"""A path in settings."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

File = Annotated[Path, BeforeValidator(os.path.expanduser)]  # ~ is home, which YAML and `--name=~/x` leave to us
