"""Genes as observations: means of their states over the cells that show them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from scgenemamba import tl
from tests.conftest import make_adata
from tests.tl.threads import with_threads


@pytest.fixture(scope="module")
def model():
    import scvi

    from scgenemamba import GeneMambaModel

    scvi.settings.seed = 0
    adata = make_adata()
    GeneMambaModel.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    model = GeneMambaModel(adata, n_layers=1, d_model=32, max_tokens=24, n_latent=8, d_state=16)
    model.train(max_epochs=1, batch_size=32, enable_progress_bar=False)
    return model


def by_hand(model, rows):
    """Sums over cells that are read one by one."""
    found = {}
    for row in rows:
        (batch,) = model._make_data_loader(model.adata, indices=[row], batch_size=1)
        tokens = batch["tokens"].numpy()[: model.module.config.max_tokens]
        for token, state in zip(tokens, model.hidden_states(tokens[None])[0], strict=True):
            found.setdefault(model.vocabulary.genes[token - 2], []).append(state)
    return found


def test_means_over_the_cells_that_show_a_gene(model):
    rows = [5, 0, 17, 3]
    genes = tl.gene_embeddings(model, indices=rows, min_cells=2)
    expected = {name: states for name, states in by_hand(model, rows).items() if len(states) >= 2}
    assert set(genes.obs_names) == set(expected)
    for name, states in expected.items():
        assert genes.obs.loc[name, "n_cells"] == len(states)
        np.testing.assert_allclose(genes[name].X[0], np.mean(states, axis=0), atol=1e-5)


def test_a_group_is_what_its_cells_alone_give(model):
    before = model.adata.obs.copy()
    genes = tl.gene_embeddings(model, model.adata, groupby="cell_type", min_cells=3)
    pd.testing.assert_frame_equal(model.adata.obs[before.columns], before)
    assert set(genes.obs["cell_type"].cat.categories) == set(before["cell_type"].unique())
    for group, part in genes.obs.groupby("cell_type", observed=True):
        rows = np.flatnonzero(before["cell_type"] == group)
        alone = tl.gene_embeddings(model, indices=rows, min_cells=3, batch_size=7)
        assert list(part["gene"]) == list(alone.obs_names)
        assert list(part.index) == [f"{gene}|{group}" for gene in alone.obs_names]
        np.testing.assert_allclose(genes[part.index].X, alone.X, atol=1e-5)
        assert list(part["n_cells"]) == list(alone.obs["n_cells"])


def test_threads_change_nothing(model):
    found = with_threads(lambda: tl.gene_embeddings(model, min_cells=3).X)
    np.testing.assert_allclose(*found, atol=1e-5)


def test_scanpy_reads_them(model):
    genes = tl.gene_embeddings(model, min_cells=5)
    sc.pp.neighbors(genes, use_rep="X", metric="cosine", n_neighbors=5)
    assert genes.obsp["connectivities"].shape == (genes.n_obs, genes.n_obs)


def test_static_embeddings_are_those_of_the_encoder(model):
    genes = tl.gene_embeddings(model, contextual=False)
    np.testing.assert_array_equal(genes.X, model.get_gene_embeddings().to_numpy())
    assert list(genes.obs_names) == list(model.vocabulary.genes)
    with pytest.raises(ValueError, match="same in all cells"):
        tl.gene_embeddings(model, model.adata, contextual=False)


def test_cells_without_a_group_are_left_out(model):
    adata = make_adata()
    adata.obs["part"] = pd.Categorical([None] * adata.n_obs, categories=["a", "b"])
    with pytest.raises(ValueError, match="no cell has a value in 'part'"):
        tl.gene_embeddings(model, adata, groupby="part")
    adata.obs.iloc[:10, adata.obs.columns.get_loc("part")] = "a"
    genes = tl.gene_embeddings(model, adata, groupby="part", min_cells=1)
    assert list(genes.obs["part"].cat.categories) == ["a"]
    assert genes.obs["n_cells"].max() <= 10


def test_bad_arguments_are_named(model):
    with pytest.raises(KeyError, match="no column 'type'"):
        tl.gene_embeddings(model, groupby="type")
    with pytest.raises(ValueError, match="No gene is shown by 100000 of the cells"):
        tl.gene_embeddings(model, min_cells=100_000)
    with pytest.raises(ValueError, match="at least 1"):
        tl.gene_embeddings(model, min_cells=0)
