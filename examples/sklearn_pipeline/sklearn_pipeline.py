"""scikit-learn with a pipeline: cross-validated scores of many settings, each computed once."""

import atexit
import tempfile

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jobspan import Memory, Parallel, delayed

X, y = load_iris(return_X_y=True)
temporary = tempfile.TemporaryDirectory(prefix="jobspan-example-")
atexit.register(temporary.cleanup)
memory = Memory(temporary.name, verbose=0)


@memory.cache
def score(C):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=500))
    return float(cross_val_score(model, X, y, cv=5).mean())


settings = [0.01, 0.1, 1.0, 10.0]
scores = Parallel(n_jobs=2)(delayed(score)(C) for C in settings)
for C, mean in zip(settings, scores, strict=True):
    print(f"C={C:<5} accuracy {mean:.4f}")
print("best:", max(zip(scores, settings, strict=True))[1])
