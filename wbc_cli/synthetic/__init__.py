"""Synthetic blood smears of which every cell is known: for the demo, tests and benchmarks."""

from wbc_cli.synthetic.demo import write_demo
from wbc_cli.synthetic.slide import write_slide
from wbc_cli.synthetic.smear import Smear, TrueCell

__all__ = ["Smear", "TrueCell", "write_demo", "write_slide"]
