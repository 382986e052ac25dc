"""Models that learn next genes instead of masked ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scgenemamba import GeneMambaModel

from .conftest import TINY

KEYS = {"next_token": {"next_token", "previous_token"}, "leaky_next_token": {"leaky_next_token"}}


@pytest.fixture(params=KEYS)
def language(request):
    return request.param


@pytest.fixture
def model(adata, language):
    GeneMambaModel.setup_anndata(adata, batch_key="batch")
    model = GeneMambaModel(adata, language=language, **TINY)
    model.train(max_epochs=3, batch_size=32, enable_progress_bar=False)
    return model


def test_it_learns_next_genes(model, language):
    assert KEYS[language] < set(model.module.objectives)
    for key in KEYS[language]:
        values = model.history[f"{key}_train"].to_numpy()
        assert values[-1] < values[0]
    with pytest.raises(ValueError, match="language"):
        model.token_logits(np.array([[2, 3]]))


def test_it_is_saved_with_its_heads(model, language, adata, tmp_path):
    for key in KEYS[language]:
        torch.nn.init.normal_(model.module.objectives[key].head.bias)
    model.save_pretrained(tmp_path)
    loaded = GeneMambaModel.from_pretrained(tmp_path)
    np.testing.assert_array_equal(loaded.get_latent_representation(adata), model.get_latent_representation())
    for key in KEYS[language]:
        head, again = model.module.objectives[key].head, loaded.module.objectives[key].head
        assert torch.equal(head.bias, again.bias)
        assert again.weight is loaded.module.network.encoder.embeddings.weight
    # a model for other data starts from them
    GeneMambaModel.setup_anndata(adata, batch_key="batch")
    model.save(tmp_path / "scvi")
    np.testing.assert_array_equal(
        GeneMambaModel.load(tmp_path / "scvi", adata).get_latent_representation(), model.get_latent_representation()
    )


def test_an_unknown_objective_is_refused(adata):
    GeneMambaModel.setup_anndata(adata)
    with pytest.raises(ValueError, match="'masked_genes', 'next_token' or 'leaky_next_token'"):
        GeneMambaModel(adata, language="nxt")
