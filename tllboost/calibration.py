"""Probabilities and thresholds, both chosen on validation pairs.

A score becomes a probability through a logistic curve of one slope and one intercept
(Platt, "Probabilistic outputs for support vector machines", 1999). The slope is always
positive, so log-odds rank pairs just as the score does, whatever validation says.

A few scores may lie far outside of all others, those of naive Bayes a million times as
far. They count as the limits of what is ordinary on validation, where the curve is
fitted and wherever it is used; only their order among themselves stays.

Validation pairs weigh what they weigh: drawn non-matches of a match one together, so
that matches are 1 in 2; labelled pairs as they were given. A curve keeps that share,
its *prior*, and :meth:`Calibration.at` moves it to another one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import UsageError

Floats = NDArray[np.float64]

Share = float | str
"""A number between 0 and 1, or one as text, which may be a fraction, as 1/20."""

# Quartiles of each class, and how far from them a score is an outlier, in widths of
# what lies between them (the fences of Tukey, "Exploratory data analysis", 1977).
_QUARTILES, _FENCE = (0.25, 0.75), 1.5
_LEAST = 1e-4  # slope, in spreads of the score
_ORDER = 1e-3  # log-odds that the order of outliers takes at most
_STEPS = {"maxiter": 100, "maxls": 50, "gtol": 1e-4, "ftol": 64 * 2.0**-52}
_FAR = 1e300  # no limit, as a number that JSON has

FLAT = (
    "the validation scores do not tell matches from non-matches, so all probabilities "
    "are about the same"
)
"""What to say of a curve that is flat."""


class Calibration(NamedTuple):
    """The curve p = 1 / (1 + exp(−(slope · score + intercept))).

    A score outside of ``low`` to ``high`` counts as the limit, but for less than 0.001
    of log-odds that keep the order of such scores.

    Parameters
    ----------
    slope, intercept : float
    low, high : float
        Limits of what is ordinary on validation.
    prior : float, default=0.5
        Share of matches among the pairs that the probabilities hold for.
    """

    slope: float
    intercept: float
    low: float = -_FAR
    high: float = _FAR
    prior: float = 0.5

    @property
    def is_flat(self) -> bool:
        """Whether all ordinary scores come to the same probability, within 0.03."""
        return not self.slope * (self.high - self.low) > 0.1

    def log_odds(self, score: NDArray[np.floating]) -> Floats:
        """Return the log-odds of a match: (n_pairs,) float64."""
        score = np.asarray(score, dtype=np.float64)
        inside = np.clip(score, self.low, self.high)
        far = np.log1p(self.slope * np.abs(score - inside))
        beyond = _ORDER * np.sign(score - inside) * far / (1 + far)
        return self.slope * inside + self.intercept + beyond

    def probability(self, score: NDArray[np.floating]) -> Floats:
        """Return the probability of a match: (n_pairs,) float64 in [0, 1]."""
        with np.errstate(over="ignore"):  # of exp: the probability is 0 then
            return 1 / (1 + np.exp(-self.log_odds(score)))

    def at(self, prior: Share) -> Calibration:
        """Return the curve for pairs of which another share matches.

        The odds of a match are those of the score times those of the prior (Bayes), so
        in log-odds the curve is shifted (Elkan, "The foundations of cost-sensitive
        learning", 2001, theorem 2).

        Raises
        ------
        UsageError
            If `prior` is not between 0 and 1.

        Examples
        --------
        >>> curve = Calibration(1.0, 0.0)
        >>> curve.at(0.05).probability(np.array([0.0, 3.0])).round(3).tolist()
        [0.05, 0.514]
        """
        share = check_share(prior, "prior")
        shift = logit(share) - logit(self.prior)
        return self._replace(intercept=self.intercept + shift, prior=share)

    def score_of(self, probability: float) -> float:
        """Return the score that has a probability, ±1e300 where none has it.

        Examples
        --------
        >>> Calibration(2.0, 1.0).score_of(0.5)
        -0.5
        """
        wanted = logit(probability) - self.intercept
        if not self.slope > 0:
            return -_FAR if wanted <= 0 else _FAR
        score = wanted / self.slope
        if self.low <= score <= self.high:
            return score
        # Beyond the limits only the order of outliers is left: log_odds, turned round.
        end, sign = (self.high, 1) if score > self.high else (self.low, -1)
        rest = abs(wanted - self.slope * end) / _ORDER
        if rest > 0.99:
            return sign * _FAR
        return end + sign * float(np.expm1(rest / (1 - rest))) / self.slope


def fit_calibration(
    score: NDArray[np.floating],
    label: NDArray[np.integer],
    weight: Floats | None = None,
) -> Calibration:
    """Fit the logistic curve of one score.

    Parameters
    ----------
    score : ndarray of shape (n_pairs,)
        Any score, larger for a match.
    label : ndarray of shape (n_pairs,)
        1 for a match.
    weight : ndarray of shape (n_pairs,) or None, default=None
        Weights of the pairs.

    Returns
    -------
    Calibration
        Flat where the score ranks non-matches above matches: as good as the share of
        matches, and still in the order of the score. Of equal scores, or one class,
        the slope is 0.

    Examples
    --------
    >>> curve = fit_calibration(np.array([0.0, 1, 2, 3]), np.array([0, 1, 0, 1]))
    >>> bool(curve.probability(np.array([3.0]))[0] > 0.5)
    True
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    score = np.asarray(score, dtype=np.float64)
    weight = np.ones(len(score)) if weight is None else weight
    base = float(np.average(label, weights=weight))
    if not 0 < base < 1:
        return Calibration(0.0, 0.0)
    # Sums of weights are rounded: 1 in 2 is to be just that.
    prior, share = logit(base), 0.5 if abs(base - 0.5) < 1e-9 else base
    # Of each class, since matches may be few, and lie where no non-match does.
    ends = [np.quantile(score[label == one], _QUARTILES) for one in (0, 1)]
    low, high = float(np.min(ends)), float(np.max(ends))
    margin = _FENCE * (high - low)
    low, high = (low - margin, high + margin) if margin else (-_FAR, _FAR)
    seen = np.clip(score, low, high)
    centre, spread = float(seen.mean()), float(seen.std())
    if spread <= 1e-12 * max(1.0, abs(centre)):
        return Calibration(0.0, prior, prior=share)
    seen = (seen - centre) / spread
    share_of = weight / weight.sum()
    # A light ridge keeps the slope finite where the classes don't overlap.
    ridge = 0.01 / weight.sum()

    def loss(curve: Floats) -> tuple[float, Floats]:
        margin = curve[0] * seen + curve[1]
        short = share_of * (expit(margin) - label)
        value = share_of @ (np.logaddexp(0, margin) - label * margin)
        gradient = np.array([short @ seen + ridge * curve[0], short.sum()])
        return value + ridge / 2 * curve[0] ** 2, gradient

    # The steps of scikit-learn's LogisticRegression(C=100), in a third of its time.
    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", options=_STEPS)
    steep, at_centre = map(float, found.x)
    if steep < _LEAST:
        steep, at_centre = _LEAST, prior
    slope = steep / spread
    return Calibration(slope, at_centre - slope * centre, low, high, share)


def logit(share: float) -> float:
    """Return the log-odds of a share between 0 and 1."""
    return float(np.log(share) - np.log1p(-share))


def check_share(share: Share, what: str) -> float:
    """Return a share as the number that it is.

    Raises
    ------
    UsageError
        If it is not between 0 and 1; `what` is its name.

    Examples
    --------
    >>> check_share("1/20", "prior"), check_share(0.05, "prior")
    (0.05, 0.05)
    """
    whole, _, parts = str(share).partition("/")
    try:
        value = float(whole) / float(parts or 1)
    except (ValueError, ZeroDivisionError):
        value = 0.0
    if not 0 < value < 1:
        msg = f"{what} {share!r} must lie between 0 and 1: give one as 0.05 or 1/20"
        raise UsageError(msg)
    return value


def one_match_of(n_candidates: int) -> float:
    """Return the prior of a list that holds one match: 1/n, and at most 1/2.

    Examples
    --------
    >>> one_match_of(20), one_match_of(1)
    (0.05, 0.5)
    """
    return 1 / max(n_candidates, 2)


def log_loss(
    log_odds: Floats, label: NDArray[np.integer], weight: Floats | None = None
) -> float:
    """Return the mean negative log-likelihood of labels, in nats.

    Examples
    --------
    >>> round(log_loss(np.zeros(2), np.array([0, 1])), 4)
    0.6931
    """
    loss = np.logaddexp(0.0, np.where(label == 1, -log_odds, log_odds))
    return float(np.average(loss, weights=weight))


def best_threshold(
    score: NDArray[np.floating],
    label: NDArray[np.integer],
    weight: Floats | None = None,
) -> float:
    """Return the score at which balanced accuracy is highest; a match is at or above.

    Half-way between two neighbouring scores, so that it carries over to other pairs.

    Examples
    --------
    >>> best_threshold(np.array([0.1, 0.2, 0.6, 0.8]), np.array([0, 0, 1, 1]))
    0.4
    """
    score = np.asarray(score, dtype=np.float64)
    weight = np.ones(len(score)) if weight is None else weight
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    hit, alarm = (
        np.cumsum(weight[order] * one[order]) / max((weight * one).sum(), 1e-12)
        for one in (label == 1, label != 1)
    )
    # Only the last of equal scores is a place where a threshold can stand.
    last = np.append(ranked[1:] < ranked[:-1], True)
    best = np.argmax(np.where(last, hit - alarm, -np.inf))
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[best]
    middle = (ranked[best] + below) / 2
    # Between scores that nearly touch, the middle is rounded to the lower one.
    return float(middle if middle > below else ranked[best])
