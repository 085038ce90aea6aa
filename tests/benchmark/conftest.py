"""The small study of tests/study, for benchmarks on it."""

from tests.study.conftest import home, made_study, small_config

__all__ = ["home", "made_study", "small_config"]
