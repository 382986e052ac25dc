from __future__ import annotations

import pytest
import torch

from scgenemamba.nn import BiMambaEncoder, GeneMambaConfig, WindowReader

SIZES = {"n_tokens": 60, "d_model": 32, "d_state": 8, "headdim": 16, "chunk_size": 8}
LENGTH = 37


def make(fusion: str = "mean", n_layers: int = 2, **settings: object) -> BiMambaEncoder:
    torch.manual_seed(0)
    return BiMambaEncoder(GeneMambaConfig(fusion=fusion, n_layers=n_layers, **SIZES, **settings), "torch").double()


def sequence(length: int = LENGTH) -> torch.Tensor:
    return torch.randperm(50, generator=torch.Generator().manual_seed(1))[:length] + 2


def reader_of(encoder: BiMambaEncoder, tokens: torch.Tensor) -> WindowReader:
    return WindowReader(encoder, tokens[None], torch.tensor([len(tokens)]))


def whole(encoder: BiMambaEncoder, tokens: torch.Tensor) -> torch.Tensor:
    return encoder(tokens, torch.tensor([0, len(tokens)]))


@pytest.mark.parametrize("fusion", ["mean", "sum", "gate", "concat", "alternate"])
@pytest.mark.parametrize("settings", [{}, {"pre_norm": False, "shared_aggregator": True}])
def test_unchanged_windows_read_as_before(fusion, settings):
    encoder, tokens = make(fusion, n_layers=3, **settings), sequence()
    reader = reader_of(encoder, tokens)
    expected = whole(encoder, tokens)
    torch.testing.assert_close(reader.hidden[0], expected)
    start = torch.tensor([0, 5, LENGTH - 7])
    inside = torch.ones(3, 7, dtype=torch.bool)
    windows = tokens[start[:, None] + torch.arange(7)]
    states = reader.read(windows, inside, torch.zeros(3, dtype=torch.long), start, start + 7)
    torch.testing.assert_close(states, expected[start[:, None] + torch.arange(7)])


def test_a_window_over_everything_is_exact():
    encoder, tokens = make(n_layers=3), sequence()
    changed = torch.cat([tokens[4:5], tokens[:4], tokens[5:]])
    states = reader_of(encoder, tokens).read(
        changed[None],
        torch.ones(1, LENGTH, dtype=torch.bool),
        torch.tensor([0]),
        torch.tensor([0]),
        torch.tensor([LENGTH]),
    )
    torch.testing.assert_close(states[0], whole(encoder, changed))


@pytest.mark.parametrize("fusion", ["mean", "gate", "alternate"])
def test_one_layer_reads_deletions_and_insertions_exactly_inside_the_window(fusion):
    encoder, tokens = make(fusion, n_layers=1), sequence()
    reader = reader_of(encoder, tokens)
    # without the token at 10; and at the end, a token that was not there
    new = torch.tensor([57])
    table = torch.stack([torch.cat([tokens[7:10], tokens[11:14]]), torch.cat([tokens[-5:], new])])
    inside = torch.ones(2, 6, dtype=torch.bool)
    states = reader.read(table, inside, torch.tensor([0, 0]), torch.tensor([7, LENGTH - 5]), torch.tensor([14, LENGTH]))
    without = whole(encoder, torch.cat([tokens[:10], tokens[11:]]))
    torch.testing.assert_close(states[0], without[7:13])
    torch.testing.assert_close(states[1], whole(encoder, torch.cat([tokens, new]))[-6:])


def test_what_is_not_there_is_not_read():
    encoder, tokens = make(), sequence()
    reader = reader_of(encoder, tokens)
    table, inside = torch.full((2, 5), 58), torch.ones(2, 5, dtype=torch.bool)
    table[0, 2:], table[1, :3] = tokens[:3], tokens[-3:]
    inside[0, :2] = inside[1, 3:] = False
    first, last = reader.read(
        table, inside, torch.tensor([0, 0]), torch.tensor([0, LENGTH - 3]), torch.tensor([3, LENGTH])
    )
    torch.testing.assert_close(first[2:], reader.hidden[0, :3])
    torch.testing.assert_close(last[:3], reader.hidden[0, -3:])


@pytest.mark.parametrize("length", [1, 3, 16, 17])
def test_short_sequences(length):
    encoder, tokens = make(), sequence(length)
    reader = reader_of(encoder, tokens)
    states = reader.read(
        tokens[None],
        torch.ones(1, length, dtype=torch.bool),
        torch.tensor([0]),
        torch.tensor([0]),
        torch.tensor([length]),
    )
    torch.testing.assert_close(states[0], whole(encoder, tokens))


@pytest.mark.parametrize("fusion", ["mean", "alternate"])
def test_sequences_side_by_side_read_as_alone(fusion):
    encoder = make(fusion, n_layers=3)
    sequences = [sequence(length) for length in (LENGTH, 9, 16)]
    lengths = torch.tensor([len(tokens) for tokens in sequences])
    together = WindowReader(encoder, torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True), lengths)
    generator = torch.Generator().manual_seed(2)
    number = torch.randint(3, (60,), generator=generator)
    start = (torch.rand(60, generator=generator) * (lengths[number] - 3)).long()
    tokens, inside = torch.randint(2, 60, (60, 3), generator=generator), torch.ones(60, 3, dtype=torch.bool)
    states = together.read(tokens, inside, number, start, start + 3)
    for k, one in enumerate(sequences):
        alone, own = reader_of(encoder, one), number == k
        torch.testing.assert_close(together.hidden[k, : len(one)], alone.hidden[0])
        asked = (tokens[own], inside[own], torch.zeros(int(own.sum()), dtype=torch.long), start[own], start[own] + 3)
        torch.testing.assert_close(states[own], alone.read(*asked))
