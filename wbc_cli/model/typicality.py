"""How like the training cells a cell is: a network is confident also about what it has never seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SHRINKAGE = 0.1
_MIN_CLASS_CELLS = 5  # cells of a class, for a centre of its own
# Another laboratory's cells lie farther off than those held out at home. With a model that had left BCCD out, 4 % of
# the cells in its training split lay beyond 1.2 times the home limit, and six of seven of these were typed wrong; of
# those between 1 and 1.2 most were right.
_LIMIT_FACTOR = 1.2


class Typicality(nn.Module):
    """The distance of a cell's pooled features from the nearest class of the training cells, 1 at the limit.

    The Mahalanobis distance with one covariance for all classes (Lee et al., "A simple unified framework for detecting
    out-of-distribution samples", NeurIPS 2018). Before `fit` every cell is typical.
    """

    centres: Tensor
    whitening: Tensor

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.zeros(classes, width))
        self.register_buffer("whitening", torch.zeros(width, width))

    def forward(self, pooled: Tensor) -> Tensor:
        """Compute the distances, float [N], of features [N, width]; above 1 a cell is unlike the training cells."""
        whitened, centres = pooled @ self.whitening, self.centres @ self.whitening
        return torch.stack([(whitened - centre).norm(dim=1) for centre in centres]).amin(dim=0)

    @torch.no_grad()
    def fit(self, pooled: Tensor, labels: Tensor, held_out: Tensor, typical: float) -> None:
        """Learn what is typical; nothing changes where there are too few cells for that.

        Args:
            pooled: float [N, width], features of training cells.
            labels: int64 [N], their classes.
            held_out: float [M, width], features of validation cells, which set the limit.
            typical: share of these that lies below the limit at home; in use it is somewhat wider.
        """
        classes = [c for c in range(len(self.centres)) if int((labels == c).sum()) >= _MIN_CLASS_CELLS]
        if not classes or not len(held_out):
            return
        # A class without cells gets another's centre, so that it adds no centre to be near to.
        means = {c: pooled[labels == c].double().mean(dim=0) for c in classes}
        self.centres.copy_(torch.stack([means.get(c, means[classes[0]]) for c in range(len(self.centres))]))
        residuals = torch.cat([pooled[labels == c].double() - means[c] for c in classes])
        covariance = residuals.T @ residuals / len(residuals)
        variance = covariance.diagonal().mean()
        covariance = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * variance * torch.eye(len(covariance)).to(covariance)
        self.whitening.copy_(torch.linalg.cholesky(torch.linalg.inv(covariance)))
        self.whitening /= _LIMIT_FACTOR * torch.quantile(self(held_out), typical)
