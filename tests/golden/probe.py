"""Prints scikit-learn's logistic regression that crates/roclip/src/eval/softmax_regression.rs is compared with."""

import numpy
from sklearn.linear_model import LogisticRegression

points = numpy.array([0.0, 1.0, 1.0, 0.5, 2.0, -1.0, 3.0, 0.0, -1.0, 2.0, 0.5, 0.5]).reshape(6, 2)
labels = numpy.array([0, 0, 1, 1, 2, 2])
fitted = LogisticRegression(C=1 / (6 * 0.1), tol=1e-12, max_iter=10_000).fit(points, labels)
print("weight", fitted.coef_.reshape(-1).round(6).tolist())
print("bias", (fitted.intercept_ - fitted.intercept_.mean()).round(6).tolist())
