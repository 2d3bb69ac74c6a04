"""scikit-learn's own parallel parts on the cluster, through joblib."""

import joblib
import numpy as np
import ray
from ray.util.joblib import register_ray
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.svm import SVC

ray.init(num_cpus=2)
register_ray()
X, y = (part[:400] for part in load_digits(return_X_y=True))
grid = {"C": [0.1, 1, 10]}
with joblib.parallel_backend("ray"):
    search = GridSearchCV(SVC(), grid, cv=3, n_jobs=-1).fit(X, y)
    forest = RandomForestClassifier(20, random_state=0, n_jobs=2).fit(X, y)
    scores = cross_val_score(forest, X, y, cv=3, n_jobs=2)
plain = GridSearchCV(SVC(), grid, cv=3).fit(X, y)
assert search.best_params_ == plain.best_params_
assert np.allclose(search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])
assert scores.mean() > 0.8
print("sklearn: fine")
