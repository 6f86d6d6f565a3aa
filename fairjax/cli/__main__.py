"""``python -m fairjax.cli``."""

from fairjax.__main__ import run

run()
