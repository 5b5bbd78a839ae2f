"""Starts the service: `python3 -I -B DIRECTORY CONFIGURATION`, wherever the directory lies and whatever its name is."""

import sys
from importlib import import_module
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[0] = str(here.parent)  # Python puts the directory itself there, in which no relative import works
import_module(f"{here.name}.collector").main()
