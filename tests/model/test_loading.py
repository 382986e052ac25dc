"""Reading ahead: same batches, errors passed on, threads that end; and what a batch holds."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from scgenemamba.model._loading import CellLoader, DataSplitter, read_ahead


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read_ahead")]


def test_order_and_end():
    assert list(read_ahead(iter(range(50)))) == list(range(50))
    assert list(read_ahead(iter([]))) == []
    assert not reading_threads()


def test_reads_no_further_than_asked():
    taken = []

    def numbers():
        for i in range(100):
            taken.append(i)
            yield i

    for i in read_ahead(numbers(), 2):
        assert len(taken) <= i + 1 + 2


def test_errors_come_with_their_batch():
    def numbers():
        yield from range(5)
        msg = "cell 5 is broken"
        raise OSError(msg)

    seen = []
    with pytest.raises(OSError, match="cell 5 is broken"):
        for i in read_ahead(numbers()):
            seen.append(i)
    assert seen == list(range(5))
    assert not reading_threads()


def test_thread_ends_when_the_loop_is_left():
    numbers = read_ahead(iter(range(10**9)))
    assert next(numbers) == 0
    assert reading_threads()
    numbers.close()
    assert not reading_threads()


def test_batches_are_those_read_without_thread(trained):
    def batches(reads_ahead):
        torch.manual_seed(1)
        loader = CellLoader(trained.adata_manager, batch_size=32, shuffle=True)
        loader._reads_ahead = reads_ahead
        found = []
        for batch in loader:
            found.append(batch)
            torch.rand(1)  # the loop's own random numbers change nothing
        return found

    for plain, ahead in zip(batches(False), batches(True), strict=True):
        assert plain.keys() == ahead.keys()
        assert all(torch.equal(plain[key], ahead[key]) for key in plain)


@pytest.mark.parametrize(("device", "reads_ahead"), [(None, False), ("cpu", False), ("mps", True)])
def test_reads_ahead_for_a_gpu_only(trained, device, reads_ahead):
    device = device and torch.device(device)
    assert CellLoader(trained.adata_manager, device=device)._reads_ahead is reads_ahead


@pytest.mark.filterwarnings("ignore:.*pin_memory.*")
def test_memory_is_pinned_for_cuda(trained):
    assert CellLoader(trained.adata_manager, device=torch.device("cuda", 0)).pin_memory
    assert not CellLoader(trained.adata_manager).pin_memory


def test_worker_processes_give_the_same_batches(trained):
    plain = list(CellLoader(trained.adata_manager, batch_size=40))
    spread = list(CellLoader(trained.adata_manager, batch_size=40, num_workers=1, device=torch.device("mps")))
    assert [batch["tokens"].tolist() for batch in plain] == [batch["tokens"].tolist() for batch in spread]


def test_splitter_takes_the_device_of_the_trainer(trained):
    splitter = DataSplitter(trained.adata_manager, batch_size=32)

    class Trainer:
        strategy = type("Strategy", (), {"root_device": torch.device("mps")})

    splitter.trainer = Trainer()
    splitter.setup()
    assert splitter.train_dataloader()._reads_ahead
    assert splitter.val_dataloader()._reads_ahead


def test_only_what_is_asked_for_is_read(trained):
    tokens = {"tokens", "cu_seqlens", "cell"}
    rows = np.array([5, 3])
    assert trained.adata_manager.create_torch_dataset(data_and_attributes=[])[rows].keys() == tokens
    values = {"expression", "total"}
    assert trained.adata_manager.create_torch_dataset(data_and_attributes=["X"])[rows].keys() == tokens | values
    assert trained.adata_manager.create_torch_dataset()[rows].keys() == tokens | values | {"batch", "labels"}
