"""From AnnData to embeddings with the full model on a GPU: the network alone, the loading alone, and both."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .encoder import BATCH_TOKENS
from .results import Report, Result

if TYPE_CHECKING:
    from anndata import AnnData

    from scgenemamba import GeneMambaModel
    from scgenemamba.tokens import CellBatch

#: Blood cells, whose lengths vary as those of most data.
DATA = "pbmc3k.h5ad"
# the network's speed shows on fewer
_CELLS_OF_NETWORK = 10_000
_SAMPLE_MS = 200


def measure(path: Path, n_cells: int, device: torch.device, report: Report, *, preset: str = "large") -> None:
    """Embed the cells of a file, repeated as often as it takes.

    Parameters
    ----------
    path
        ``.h5ad`` with counts.
    n_cells
        Cells to embed.
    device
        Where to run.
    report
        Takes the results.
    preset
        Size of the model; its weights are untrained.
    """
    if not path.exists():
        report(Result(part="cells", what="all", rival="ours", note=f"skipped: {path.name} not found, see --data"))
        return
    model, setup_s = make_model(path, n_cells, preset)
    model.to_device(device)
    # compiles, and reads the numba cache
    model.get_latent_representation(indices=range(min(1_000, n_cells)))
    started = time.perf_counter()
    loaded = list(model._make_data_loader(adata=model.adata, data_and_attributes=[]))
    loading_s = time.perf_counter() - started
    network = network_alone(model, loaded, device)
    report(network)
    with gpu_utilisation(device) as utilisation:
        started = time.perf_counter()
        latent = model.get_latent_representation()
        seconds = time.perf_counter() - started
    assert network.cells_per_s is not None
    details = {
        "setup_s": setup_s,
        "loading_alone_s": loading_s,
        "network_alone_s": len(latent) / network.cells_per_s,
        **utilisation,
    }
    report(_of_cells("get_latent_representation", len(latent), seconds, details))


def make_model(path: Path, n_cells: int, preset: str) -> tuple[GeneMambaModel, float]:
    """Model of the tiled cells, and the seconds of setting up."""
    import anndata as ad
    import numpy as np

    from scgenemamba import GeneMambaModel

    few: AnnData = ad.read_h5ad(path)
    adata = ad.AnnData(few.X[np.arange(n_cells) % few.n_obs], var=few.var)
    started = time.perf_counter()
    GeneMambaModel.setup_anndata(adata)
    model = GeneMambaModel(adata, preset=preset)
    # speed does not depend on the weights
    model.is_trained_ = True
    return model, time.perf_counter() - started


@torch.inference_mode()
def network_alone(model: GeneMambaModel, loaded: list[CellBatch], device: torch.device) -> Result:
    """Latent of packed batches of equal numbers of tokens that are in the GPU's memory already."""
    module: Any = model.module
    module.eval()
    batches = repack(map(module.truncate, loaded), device)
    n_cells = sum(len(bounds) - 1 for _, bounds in batches)

    def run() -> float:
        _wait(device)
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16):
            for tokens, bounds in batches:
                module.network(tokens, bounds)
        _wait(device)
        return time.perf_counter() - started

    run()
    n_tokens = sum(len(tokens) for tokens, _ in batches)
    return _of_cells("network alone", n_cells, run(), {"tokens_per_cell": n_tokens / n_cells})


def repack(loaded: Iterator[CellBatch], device: torch.device) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Tokens and bounds of batches of about :data:`~_speed.encoder.BATCH_TOKENS` tokens."""
    cells: list[torch.Tensor] = []
    for batch in loaded:
        cells += batch["tokens"].split(batch["cu_seqlens"].diff().tolist())
        if len(cells) >= _CELLS_OF_NETWORK:
            break
    batches, start, size = [], 0, 0
    for end, cell in enumerate(cells, 1):
        size += len(cell)
        if size >= BATCH_TOKENS or end == len(cells):
            lengths = torch.tensor([0, *map(len, cells[start:end])])
            batches.append((torch.cat(cells[start:end]).to(device), lengths.cumsum(0).to(device)))
            start, size = end, 0
    return batches


@contextmanager
def gpu_utilisation(device: torch.device) -> Iterator[dict[str, float]]:
    """Mean utilisation while the block runs, in per cent, filled in at its end; nothing without ``nvidia-smi``."""
    found: dict[str, float] = {}
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", f"-lms={_SAMPLE_MS}"]
    command.append(f"--id={device.index or 0}")
    try:
        sampler = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        yield found
        return
    try:
        yield found
    finally:
        sampler.terminate()
        lines, _ = sampler.communicate()
        samples = [float(line) for line in lines.split() if line.isdigit()]
        if samples:
            found["gpu_utilisation_percent"] = sum(samples) / len(samples)


def _of_cells(what: str, n_cells: int, seconds: float, details: dict[str, float]) -> Result:
    rate = n_cells / seconds
    return Result(part="cells", what=what, rival="ours", seconds=seconds, cells_per_s=rate, details=details)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
