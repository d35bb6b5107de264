import torch

from streamcodec.train.quantizer import CodebookLearner, k_means, nearest, perplexity


def _clusters(generator: torch.Generator) -> torch.Tensor:
    """800 points in 16 tight clusters."""
    centres = 10 * torch.randn(16, 4, generator=generator)
    return centres.repeat(50, 1) + 0.01 * torch.randn(800, 4, generator=generator)


def test_k_means_leaves_no_entry_unused() -> None:
    generator = torch.Generator().manual_seed(0)
    x = _clusters(generator)
    codes = nearest(x, k_means(x, 16, 10, generator))
    assert len(codes.unique()) >= 14
    # More entries than clusters: still all in use.
    codes = nearest(x, k_means(x, 64, 10, generator))
    assert len(codes.unique()) >= 60


def test_k_means_with_fewer_rows_than_entries() -> None:
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    centroids = k_means(x, 8, 3, torch.Generator().manual_seed(1))
    assert centroids.shape == (8, 2)
    torch.testing.assert_close(centroids[nearest(x, centroids)], x)


def test_nearest_is_the_euclidean_nearest() -> None:
    generator = torch.Generator().manual_seed(2)
    x, codebook = torch.randn(50, 6, generator=generator), torch.randn(20, 6, generator=generator)
    assert torch.equal(nearest(x, codebook), torch.cdist(x, codebook).argmin(1))


def test_perplexity_counts_entries_in_use() -> None:
    counts = torch.tensor([[1.0, 1, 1, 1], [5, 0, 0, 0], [2, 2, 0, 0]])
    torch.testing.assert_close(perplexity(counts), torch.tensor([4.0, 1.0, 2.0]))


def _learner(generator: torch.Generator, z: torch.Tensor) -> CodebookLearner:
    learner = CodebookLearner(3, 8, z.shape[-1])
    learner.start(z.flatten(0, 1), generator)
    return learner


def test_each_codebook_lowers_the_error_and_rows_use_their_own_number() -> None:
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(3, 40, 4, generator=generator)
    learner = _learner(generator, z)
    latents = learner(z, torch.tensor([1, 2, 3])).latents
    errors = [(learner(z, torch.full((3,), n)).latents - z).square().mean() for n in (1, 2, 3)]
    assert errors[0] > errors[1] > errors[2]
    for row, count in enumerate((1, 2, 3)):
        alone = learner(z[row : row + 1], torch.tensor([count])).latents
        torch.testing.assert_close(latents[row : row + 1], alone)


def test_gradients_pass_straight_through_and_commitment_pulls_to_the_entry() -> None:
    generator = torch.Generator().manual_seed(4)
    z = torch.randn(2, 10, 4, generator=generator).requires_grad_()
    learner = _learner(generator, z.detach())
    result = learner(z, torch.tensor([3, 3]))
    (gradient,) = torch.autograd.grad(result.latents.sum(), z, retain_graph=True)
    torch.testing.assert_close(gradient, torch.ones_like(z))
    (pull,) = torch.autograd.grad(result.commitment, z)
    with torch.no_grad():
        nearer = learner(z - 0.1 * pull / pull.abs().max(), torch.tensor([3, 3])).commitment
    assert nearer < result.commitment


def test_commitment_is_the_same_at_every_scale() -> None:
    generator = torch.Generator().manual_seed(5)
    z = torch.randn(2, 30, 4, generator=generator)
    learner = _learner(generator, z)
    once = learner(z, torch.tensor([3, 3])).commitment
    learner.begin(8 * learner.codebooks, 8 * z.flatten(0, 1))
    torch.testing.assert_close(learner(8 * z, torch.tensor([3, 3])).commitment, once)


def test_dead_entries_are_revived() -> None:
    generator = torch.Generator().manual_seed(6)
    x = _clusters(generator)
    learner = CodebookLearner(1, 16, 4, decay=0.5)
    # Every vector falls on entry 0 of this codebook: it is collapsed.
    learner.begin(torch.cat([torch.zeros(1, 1, 4), torch.full((1, 15, 4), 1e3)], 1), x)
    used = torch.ones(8, dtype=torch.int64)
    assert len(learner(x.view(8, 100, 4), used).codes.unique()) == 1
    for _ in range(30):
        result = learner(x.view(8, 100, 4), used)
        learner.learn(result.codes, result.residuals, generator)
    assert len(learner(x.view(8, 100, 4), used).codes.unique()) >= 12


def test_the_moving_averages_are_those_of_the_formula() -> None:
    """van den Oord et al. 2017, appendix A.1: N <- g N + (1 - g) n, m <- g m + (1 - g) sum of x, entry = m / N.

    Counts are relative to even use, 4 vectors for each of 2 entries here, and so are the sums.
    """
    learner = CodebookLearner(1, 2, 1, decay=0.75, dead=0.0)
    learner.begin(torch.tensor([[[0.0], [10.0]]]), torch.tensor([[0.0], [1.0]]))
    residuals = torch.tensor([[1.0], [2.0], [3.0], [0.0], [1.0], [2.0], [9.0], [13.0]])
    codes = torch.tensor([[0, 0, 0, 0, 0, 0, 1, 1]])
    learner.learn(codes, residuals[None], torch.Generator())
    counts = [0.75 + 0.25 * 6 / 4, 0.75 + 0.25 * 2 / 4]
    sums = [0.25 * 9 / 4, 0.75 * 10 + 0.25 * 22 / 4]
    torch.testing.assert_close(learner.counts[0], torch.tensor(counts))
    torch.testing.assert_close(learner.sums[0, :, 0], torch.tensor(sums))
    torch.testing.assert_close(learner.codebooks[0, :, 0], torch.tensor(sums) / torch.tensor(counts))


def test_learning_follows_an_encoder_that_moves() -> None:
    generator = torch.Generator().manual_seed(7)
    z = torch.randn(2, 200, 4, generator=generator)
    used = torch.tensor([3, 3])
    learner = _learner(generator, z)
    learner.decay = 0.9
    moved = z + 3
    before = (learner(moved, used).latents - moved).square().mean()
    for _ in range(100):
        result = learner(moved, used)
        learner.learn(result.codes, result.residuals, generator)
    assert (learner(moved, used).latents - moved).square().mean() < 0.2 * before
    torch.testing.assert_close(learner.variance, z.flatten(0, 1).var(0).sum())


def test_refitting_lowers_the_error_on_another_encoders_outputs() -> None:
    generator = torch.Generator().manual_seed(12)
    learner = _learner(generator, _clusters(generator)[None])
    moved = 1.5 * _clusters(generator) + 3

    def error() -> torch.Tensor:
        quantised = learner(moved[None], torch.tensor([3])).latents
        return (quantised - moved).square().mean()

    before, counts = error(), learner.counts.clone()
    learner.refit(moved, generator, 5)
    assert error() < 0.5 * before
    assert torch.equal(learner.counts, torch.ones_like(counts))
    torch.testing.assert_close(learner.variance, moved.var(0).sum())
