"""Chunk sizes: how many members one call of a sweep's program trains on each device.

A CPU wants few members, because they must fit its cache; an accelerator wants many. A sweep starts
with an even size below a limit. Another size costs one more compilation, so a sweep tries one only
if the remaining work can repay it, and only on chunks whose results count. No member is trained
twice and no chunk is trained for timing alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairjax.core.types import Device

CPU_LIMIT = 8
ACCELERATOR_LIMIT = 256
REPAY = 4.0  # compilations that the remaining work must be worth before a size is tried
FASTER = 1.1  # a size is better if it is faster per member by this factor
CHUNKS_LEFT = 4  # of the size on trial: two measure it, the others gain from it


def start_size(members: int, devices: Sequence[Device]) -> int:
    """Members per device and call: even chunks of at most 8 on a CPU, 256 on an accelerator."""
    is_cpu = devices[0].platform == "cpu"
    limit = CPU_LIMIT if is_cpu else ACCELERATOR_LIMIT
    share = -(-members // len(devices))
    chunks = -(-share // limit)
    return -(-share // chunks)


class ChunkSizes:
    """The chunk sizes of one sweep.

    ``sizes`` holds pairs ``(first member, members per device)``: the size from that member on. The
    first chunk of a size includes the compilation, so a size is judged by its second chunk. The
    start size is doubled as long as that is faster; if doubling does not help, it is halved.

    Args:
      sizes: of a stored sweep, or ``[(0, start size)]``.
      devices: number of devices.
      tune: whether other sizes may be tried. A resumed sweep keeps the sizes that it has.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        devices: int,
        *,
        tune: bool,
    ) -> None:
        self.sizes: list[tuple[int, int]] = [(first, size) for first, size in sizes]
        self._devices = devices
        self._tuning = tune
        self._start = self.current
        self._best = self.current
        self._first_seconds: float | None = None
        self._compile_seconds: float | None = None
        self._member_seconds: dict[int, float] = {}

    @property
    def current(self) -> int:
        """Members per device of the newest size."""
        return self.sizes[-1][1]

    def size_at(self, member: int) -> int:
        """Members per device of the chunk that begins with ``member``."""
        return next(size for first, size in reversed(self.sizes) if first <= member)

    def record(self, seconds: float, compiled: bool, compile_seconds: float = 0.0) -> None:
        """Take the seconds of a full chunk of the current size.

        Args:
          seconds: of the chunk.
          compiled: whether a compilation is among them.
          compile_seconds: of a compilation, as far as they are known; one may have begun before.
        """
        if not self._tuning or self.current in self._member_seconds:
            return
        if compiled:
            self._first_seconds = seconds
            return
        if self._first_seconds is not None:
            waited = self._first_seconds - seconds
            earlier_seconds = self._compile_seconds or 0.0
            self._compile_seconds = max(waited, compile_seconds, earlier_seconds)
            self._first_seconds = None
        members = self.current * self._devices
        per_member = seconds / members
        self._member_seconds[self.current] = per_member
        best_seconds = self._member_seconds.get(self._best, float("inf"))
        if FASTER * per_member < best_seconds:
            self._best = self.current

    def decide(self, first: int, members: int) -> bool:
        """Choose the size from member ``first`` on; return whether it changed.

        Args:
          first: the next member.
          members: number of members of the sweep.
        """
        if not self._tuning or self.current not in self._member_seconds:
            return False
        candidate = self._candidate()
        if candidate is None or not self._repays(candidate, members - first):
            return self._settle(first)
        return self._change(first, candidate)

    def retreat(self, first: int) -> bool:
        """Return to the best size from member ``first`` on: the current one does not fit in memory.

        Returns whether there is a smaller size to return to.
        """
        if self.current <= self._best:
            return False
        newest_member, _ = self.sizes[-1]
        if newest_member == first:
            del self.sizes[-1]
        self._settle(first)
        return True

    def _candidate(self) -> int | None:
        """The size to try next, after the current one was measured; None if there is none."""
        improved = self.current == self._best
        if self.current == self._start:
            return 2 * self._start
        if self.current > self._start and improved:
            return 2 * self.current
        if self.current > self._start and self._best == self._start:
            return self._start // 2
        if self.current < self._start and improved:
            return self.current // 2
        return None

    def _repays(self, candidate: int, members_left: int) -> bool:
        if candidate < 1 or self._compile_seconds is None:
            return False
        fits = members_left >= CHUNKS_LEFT * candidate * self._devices
        seconds_left = members_left * self._member_seconds[self._best]
        return fits and seconds_left > REPAY * self._compile_seconds

    def _settle(self, first: int) -> bool:
        self._tuning = False
        return self._change(first, self._best)

    def _change(self, first: int, size: int) -> bool:
        if size == self.current:
            return False
        self.sizes.append((first, size))
        return True
