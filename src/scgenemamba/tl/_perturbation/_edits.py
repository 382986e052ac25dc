"""Rankings of cells with genes taken out, or moved to either end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

#: What happens to genes: taken out of the cell, or moved before or behind all others.
Kind = Literal["delete", "overexpress", "inhibit"]


class Sequences(NamedTuple):
    """Ragged token sequences.

    Attributes
    ----------
    tokens
        End to end, int32 ``(t,)``.
    cu_seqlens
        Where they begin and end, int64 ``(m + 1,)``.
    """

    tokens: npt.NDArray[np.int32]
    cu_seqlens: npt.NDArray[np.int64]


def check_kind(kind: str) -> None:
    """Refuse what is not a kind.

    Raises
    ------
    ValueError
        If it is none.
    """
    if kind not in get_args(Kind):
        msg = f"Unknown kind {kind!r}; choose one of {list(get_args(Kind))}."
        raise ValueError(msg)


def edited(
    ranking: npt.NDArray[np.int32], changes: Sequence[npt.NDArray[np.int32]], kind: Kind, max_tokens: int
) -> Sequences:
    """The ranking of a cell under each change, cut to what the model reads.

    Parameters
    ----------
    ranking
        All tokens of the cell, from most to least expressed, ``(l,)``; a gene occurs once.
    changes
        Tokens that are changed together, for each change. Overexpressed genes stand in the order given; those that the cell does not
        express are added, while deleting or inhibiting them changes nothing.
    kind
        What happens to them.
    max_tokens
        Tokens that the model reads.
    """
    place = np.full(int(max(ranking.max(initial=0), *(c.max(initial=0) for c in changes))) + 1, -1, dtype=np.int64)
    place[ranking] = np.arange(len(ranking))
    stays = np.ones((len(changes), len(ranking)), dtype=bool)
    moved = []
    for row, change in enumerate(changes):
        places = place[change]
        stays[row, places[places >= 0]] = False
        moved.append({"delete": change[:0], "overexpress": change, "inhibit": change[places >= 0]}[kind])
    rest = [ranking[row][:max_tokens] for row in stays] if len(ranking) else [ranking] * len(changes)
    front = kind == "overexpress"
    rows = [np.concatenate([m, r] if front else [r, m])[:max_tokens] for m, r in zip(moved, rest, strict=True)]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    tokens = np.concatenate(rows).astype(np.int32) if rows else np.empty(0, dtype=np.int32)
    return Sequences(tokens, np.concatenate([[0], lengths.cumsum()]))
