"""joblib.externals: what joblib brings along."""
