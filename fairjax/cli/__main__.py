"""``python -m fairjax.cli``."""

from fairjax.cli import main

main()
