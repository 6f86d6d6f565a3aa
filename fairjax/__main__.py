"""The command ``fairjax``, also ``python -m fairjax``; Ctrl-C stops it at once.

A computation does not see an interrupt before it is done, and to leave Python while it runs
crashes. So a thread waits for the interrupt, and ends the process between writes.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading

STOPPED = "\nStopped. Finished chunks of a sweep are kept; go on with --resume."


def run() -> None:
    """Run the command line."""
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.set_wakeup_fd(sender)
    threading.Thread(target=_stop_on_interrupt, args=(receiver,), daemon=True).start()
    gc.set_threshold(50_000, 20, 50)  # tracing makes many objects that live long
    from fairjax.cli import main

    main()


def _stop_on_interrupt(receiver: int) -> None:
    while os.read(receiver, 1) != bytes([signal.SIGINT]):
        pass
    from fairjax.core.disk import writing

    with writing:
        sys.stderr.write(f"{STOPPED}\n")
        sys.stderr.flush()
        os._exit(130)


if __name__ == "__main__":
    run()
