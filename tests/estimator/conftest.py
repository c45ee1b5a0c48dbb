"""Tests that need what newer TensorFlow no longer has (estimators, its own asynchronous hook)."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("tensorflow_estimator") else ["test_*.py"]
