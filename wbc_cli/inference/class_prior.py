"""The class prior of a sample: how common each class is in it, from probabilities that know nothing of that."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wbc_cli.classes import CLASSES
from wbc_cli.model.evidence import NUCLEATED

ClassPrior = tuple[float, ...]
"""The share of each of NUCLEATED, summing to 1."""

UNIFORM: ClassPrior = (1 / len(NUCLEATED),) * len(NUCLEATED)

MIN_CELLS = 10
"""The fewest nucleated cells that tell how common the classes are."""

# Of immature granulocytes, blasts and erythroblasts a network may know few in a laboratory that it has not seen, and
# would take them for rarer than they are. So where more than this share of the cells seems to be of these, no prior is
# taken: on RV-PBS, where 0.38 are and a network that has not seen it knows one blast in four, 0.641 of all types are
# right so, and 0.605 otherwise. Where none are, 0.02 are taken for some (KRD-WBC) or fewer.
_ABNORMAL = [i for i, index in enumerate(NUCLEATED) if not CLASSES[index].differential]
_MAX_ABNORMAL_SHARE = 0.05
# A class that no picture shows may be in the next one. So one cell of each is added to those that were seen, and no
# class is taken for rarer than one cell in fifty.
_ADDED_CELLS, _MIN_SHARE = 1.0, 0.02
_STEPS = 200
_DIGITS = 4


def estimate_class_prior(probabilities: NDArray[np.float32]) -> ClassPrior | None:
    """Estimate how common the classes are among cells, by expectation maximisation.

    The classes are as common as the probabilities of all cells say together, once each cell's are multiplied by how
    common the classes are (Saerens, Latinne and Decaestecker, Neural Computation, 2002).

    Args:
        probabilities: float32 [cells, classes], calibrated, of a network that was taught all classes alike.

    Returns:
        The shares; None where there are too few nucleated cells, or many of them may be abnormal.
    """
    nucleated = probabilities[:, NUCLEATED].astype(np.float64)
    weights = nucleated.sum(axis=1, keepdims=True)
    if np.count_nonzero(np.isin(probabilities.argmax(axis=1), NUCLEATED)) < MIN_CELLS:
        return None
    prior = np.array(UNIFORM)
    for _ in range(_STEPS):
        joint = nucleated * prior
        counts = (weights * joint / joint.sum(axis=1, keepdims=True).clip(1e-12)).sum(axis=0)
        prior = (counts + _ADDED_CELLS) / (counts + _ADDED_CELLS).sum()
    if counts[_ABNORMAL].sum() > _MAX_ABNORMAL_SHARE * counts.sum():
        return None
    kept = prior.clip(_MIN_SHARE)
    return tuple(round(float(share), _DIGITS) for share in kept / kept.sum())
