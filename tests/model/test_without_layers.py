"""The control without backbone: a model whose encoder has no layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scgenemamba import GeneMambaModel
from scgenemamba.nn import BiMambaEncoder, GeneMambaConfig
from tests.conftest import make_adata

from .conftest import TINY


@pytest.fixture(scope="module")
def model():
    adata = make_adata()
    GeneMambaModel.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    made = GeneMambaModel(adata, **{**TINY, "n_layers": 0})
    made.train(max_epochs=2, batch_size=32, enable_progress_bar=False)
    return made


def test_it_trains_embeds_and_predicts(model):
    assert not list(model.module.network.encoder.layers)
    assert "0 layers" in repr(model)
    loss = model.history["train_loss"].iloc[:, 0]
    assert loss.iloc[-1] < loss.iloc[0]
    assert np.isfinite(model.get_latent_representation()).all()
    assert len(model.predict()) == model.adata.n_obs


def test_saved_and_loaded(model, tmp_path):
    model.save(tmp_path / "model")
    model.save_pretrained(tmp_path / "checkpoint")
    expected = model.get_latent_representation()
    for loaded in (
        GeneMambaModel.load(tmp_path / "model", False),
        GeneMambaModel.from_pretrained(tmp_path / "checkpoint"),
    ):
        np.testing.assert_array_equal(loaded.get_latent_representation(make_adata()), expected)
    with pytest.raises(ValueError, match="it has no layers"):
        model.save_pretrained(tmp_path / "published", format="published")


def test_query_mapping(model):
    query = make_adata(seed=5)
    query.obs["batch"] = "new"
    mapped = GeneMambaModel.load_query_data(query, model)
    mapped.train(max_epochs=1, batch_size=32, enable_progress_bar=False)
    np.testing.assert_array_equal(mapped.get_latent_representation(), model.get_latent_representation(query))


@pytest.mark.parametrize("preset", ["tiny", "small", "medium", "large"])
def test_of_any_preset(model, preset):
    made = GeneMambaModel(model.adata, preset=preset, n_layers=0)
    assert made.module.config.n_layers == 0


@pytest.mark.parametrize("fusion", ["mean", "sum", "gate", "concat", "alternate"])
def test_hidden_states_are_normed_embeddings(fusion):
    config = GeneMambaConfig(n_tokens=20, d_model=32, n_layers=0, fusion=fusion, shared_aggregator=True)
    encoder = BiMambaEncoder(config)
    tokens, bounds = torch.randint(20, (12,)), torch.tensor([0, 5, 5, 12])
    x = encoder.embeddings(tokens)
    expected = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + encoder.norm_f.eps) * encoder.norm_f.weight
    for packed in (False, True):
        torch.testing.assert_close(encoder(tokens, bounds, packed=packed), expected)
    # nothing that no gradient would reach
    assert {name.split(".")[0] for name, _ in encoder.named_parameters()} == {"embeddings", "mask_embedding", "norm_f"}


def test_layer_decay_and_frozen_layers(model):
    model.train(max_epochs=1, batch_size=32, enable_progress_bar=False, plan_kwargs={"layer_decay": 0.5})
    before = model.module.network.encoder.embeddings.weight.clone()
    model.train(max_epochs=1, batch_size=32, enable_progress_bar=False, n_frozen_layers="all")
    assert torch.equal(model.module.network.encoder.embeddings.weight, before)
