from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scgenemamba.nn import Classifier, GaussianLatent, TokenHead


@pytest.mark.parametrize("chunk_rows", [1, 4, 13, 100])
@pytest.mark.parametrize("tied", [False, True])
def test_token_loss_is_the_cross_entropy(chunk_rows, tied):
    table = torch.nn.Parameter(torch.randn(11, 6, dtype=torch.float64))
    head = TokenHead(6, 11, tied=table if tied else None).double()
    torch.nn.init.normal_(head.bias)
    assert (head.weight is table) == tied
    hidden = torch.randn(13, 6, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 11, (13,))
    head.chunk_rows = chunk_rows
    loss, expected = head.loss(hidden, targets), F.cross_entropy(head(hidden), targets)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    inputs = [hidden, head.weight, head.bias]
    got, wanted = (torch.autograd.grad(t, inputs) for t in (loss, expected))
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-13)


def test_few_logits_exist_at_a_time():
    assert TokenHead(4, 25_426).rows_at_a_time(torch.device("cpu")) * 25_426 * 4 <= 16 * 2**20


def test_token_loss_of_half_precision_states_is_computed_in_full():
    head = TokenHead(6, 50)
    hidden = torch.randn(9, 6).bfloat16().requires_grad_()
    targets = torch.randint(0, 50, (9,))
    loss = head.loss(hidden, targets)
    expected = F.cross_entropy(F.linear(hidden.float(), head.weight, head.bias), targets)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    loss.backward()
    assert hidden.grad.dtype == torch.bfloat16


def test_token_loss_without_gradients():
    head = TokenHead(6, 11)
    with torch.no_grad():
        hidden, targets = torch.randn(4, 6), torch.randint(0, 11, (4,))
        torch.testing.assert_close(head.loss(hidden, targets), F.cross_entropy(head(hidden), targets))


def test_token_loss_without_rows_is_zero():
    head = TokenHead(6, 11)
    hidden = torch.randn(0, 6, requires_grad=True)
    loss = head.loss(hidden, torch.empty(0, dtype=torch.int64))
    assert float(loss.detach()) == 0
    loss.backward()


def test_a_tied_weight_must_fit():
    with pytest.raises(ValueError, match=r"shape \(5, 6\), the head needs \(11, 6\)"):
        TokenHead(6, 11, tied=torch.nn.Parameter(torch.zeros(5, 6)))
    with pytest.raises(TypeError, match="must be a parameter, got Tensor"):
        TokenHead(6, 11, tied=torch.zeros(11, 6))


def test_variance_is_positive_and_bounded():
    latent = GaussianLatent(4, 3)
    mean, variance = latent(1e4 * torch.randn(20, 4))
    assert mean.shape == variance.shape == (20, 3)
    assert float(variance.min()) > 0
    assert bool(variance.isfinite().all())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert [t.dtype for t in latent(torch.randn(2, 4).bfloat16())] == [torch.float32] * 2


def test_the_classifier_draws_no_random_numbers():
    classifier = Classifier(4, 3).train()
    x = torch.randn(5, 4)
    before = torch.get_rng_state()
    assert classifier(x).shape == (5, 3)
    assert torch.equal(torch.get_rng_state(), before)
