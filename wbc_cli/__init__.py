"""wbc-cli: batch counting, typing and explaining of white blood cells on stained smears."""

__version__ = "0.1.0"
