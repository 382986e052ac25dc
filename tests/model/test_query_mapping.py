"""Mapping a query onto a reference with load_query_data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scgenemamba import GeneMambaModel
from tests.conftest import make_adata

WEIGHT = "objectives.counts.decoder.px_decoder.fc_layers.Layer 0.0.weight"


@pytest.fixture
def query():
    adata = make_adata(seed=5)
    adata.obs["batch"] = ["new1", "new2"] * (adata.n_obs // 2)
    del adata.obs["cell_type"]
    return adata


@pytest.fixture(params=["model", "saved", "pretrained"])
def reference(request, trained, tmp_path):
    if request.param == "saved":
        trained.save(tmp_path / "reference")
        return str(tmp_path / "reference")
    if request.param == "pretrained":
        trained.save_pretrained(tmp_path / "reference")
        return tmp_path / "reference"
    return trained


def quick_train(model):
    model.train(max_epochs=1, batch_size=32, enable_progress_bar=False)


def weights(model):
    return {name: value.clone() for name, value in model.module.state_dict().items()}


def test_a_query_is_embedded_and_annotated_at_once(trained, reference, query):
    before = weights(trained)
    expected = trained.get_latent_representation(query.copy())
    model = GeneMambaModel.load_query_data(query, reference)
    np.testing.assert_array_equal(model.get_latent_representation(), expected)
    assert set(model.predict()) <= set(trained.labels)
    assert list(model._state_of("batch")["categorical_mapping"][-2:]) == ["new1", "new2"]
    after = weights(trained)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_training_a_query_moves_the_weights_of_new_batches_and_nothing_else(trained, query):
    model = GeneMambaModel.load_query_data(query, trained)
    latent, before = model.get_latent_representation(), weights(model)
    quick_train(model)
    after = weights(model)
    assert [name for name in before if not torch.equal(before[name], after[name])] == [WEIGHT]
    moved = (before[WEIGHT] != after[WEIGHT]).any(0)
    n_known = trained.summary_stats.n_batch
    first = trained.module.objectives["counts"].decoder_inputs
    assert moved[first + n_known : first + n_known + 2].all()
    assert moved.sum() == 2
    np.testing.assert_array_equal(model.get_latent_representation(), latent)


def test_known_batches_decode_as_before(trained, query):
    model = GeneMambaModel.load_query_data(query, trained)
    first = trained.module.objectives["counts"].decoder_inputs
    old, new = trained.module.state_dict()[WEIGHT], model.module.state_dict()[WEIGHT]
    n_known = trained.summary_stats.n_batch
    assert torch.equal(old[:, : first + n_known], new[:, : first + n_known])
    assert torch.allclose(new[:, first + n_known], old[:, first : first + n_known].mean(1))


def test_a_reference_without_batches_gets_columns_for_those_of_the_query(query):
    adata = make_adata()
    adata.obs["batch"] = "only"
    GeneMambaModel.setup_anndata(adata, batch_key="batch")
    reference = GeneMambaModel(adata, preset="tiny", d_model=32, n_decoder_genes=20)
    quick_train(reference)
    model = GeneMambaModel.load_query_data(query, reference)
    assert model.summary_stats.n_batch == 3
    before = weights(model)
    quick_train(model)
    first = model.module.objectives["counts"].decoder_inputs
    moved = (before[WEIGHT] != weights(model)[WEIGHT]).any(0)
    assert moved.nonzero().flatten().tolist() == [first + 1, first + 2]


def test_a_query_of_known_batches_has_nothing_to_train(trained):
    model = GeneMambaModel.load_query_data(make_adata(seed=5), trained)
    with pytest.raises(ValueError, match="nothing to train"):
        quick_train(model)


def test_unfrozen_queries_train_everything(trained, query):
    model = GeneMambaModel.load_query_data(query, trained, unfrozen=True)
    before = weights(model)
    quick_train(model)
    after = weights(model)
    assert not torch.equal(before["network.encoder.embeddings.weight"], after["network.encoder.embeddings.weight"])


def test_a_trained_query_model_saves_and_loads(trained, query, tmp_path):
    model = GeneMambaModel.load_query_data(query, trained)
    quick_train(model)
    latent = model.get_latent_representation()
    model.save(tmp_path / "scvi")
    model.save_pretrained(tmp_path / "ours")
    for again in (
        GeneMambaModel.load(tmp_path / "scvi", query),
        GeneMambaModel.from_pretrained(tmp_path / "ours", query.copy()),
    ):
        np.testing.assert_array_equal(again.get_latent_representation(), latent)


def test_a_query_without_the_batch_column_is_one_of_no_known_batch(trained, query):
    del query.obs["batch"]
    model = GeneMambaModel.load_query_data(query, trained)
    assert np.isfinite(model.get_latent_representation()).all()
