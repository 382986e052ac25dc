"""Save the model that later versions must load: tests/model/saved/vX.Y.

Run once per release, from the root of the repository: python -m scripts.save_fixture v0.1
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import scvi
from tests.conftest import make_adata

from scgenemamba import GeneMambaModel

if __name__ == "__main__":
    folder = Path("tests/model/saved") / sys.argv[1]
    scvi.settings.seed = 0
    adata = make_adata()
    GeneMambaModel.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    model = GeneMambaModel(adata, n_layers=1, d_model=32, d_state=16, max_tokens=24, n_latent=8)
    model.train(max_epochs=2, batch_size=32)
    model.save(folder, overwrite=True)
    np.save(folder / "latent.npy", model.get_latent_representation())
