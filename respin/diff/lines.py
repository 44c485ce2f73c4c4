"""The lines in which two texts differ, in bounded time whatever the texts are."""

from __future__ import annotations

from typing import List, Sequence

# Beyond this many pairs of lines, what lies between the common beginning and end is given as replaced.
_MOST_PAIRS = 1_000_000


def changed_lines(old: Sequence[str], new: Sequence[str]) -> List[str]:
    """The removed and added lines in order, with "-" or "+" before each: a longest common subsequence is left out."""
    start, end = 0, 0
    shorter = min(len(old), len(new))
    while start < shorter and old[start] == new[start]:
        start += 1
    while end < shorter - start and old[len(old) - 1 - end] == new[len(new) - 1 - end]:
        end += 1
    gone, come = old[start : len(old) - end], new[start : len(new) - end]
    if len(gone) * len(come) > _MOST_PAIRS:
        return [f"-{line}" for line in gone] + [f"+{line}" for line in come]
    # lengths[i][j]: of the longest common subsequence of gone[i:] and come[j:]
    lengths = [[0] * (len(come) + 1) for _ in range(len(gone) + 1)]
    for i in reversed(range(len(gone))):
        for j in reversed(range(len(come))):
            same = gone[i] == come[j]
            lengths[i][j] = 1 + lengths[i + 1][j + 1] if same else max(lengths[i + 1][j], lengths[i][j + 1])
    found: List[str] = []
    i = j = 0
    while i < len(gone) or j < len(come):
        if i < len(gone) and j < len(come) and gone[i] == come[j]:
            i, j = i + 1, j + 1
        elif j == len(come) or (i < len(gone) and lengths[i + 1][j] >= lengths[i][j + 1]):
            found.append(f"-{gone[i]}")
            i += 1
        else:
            found.append(f"+{come[j]}")
            j += 1
    return found
