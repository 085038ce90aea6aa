"""ProbCover."""
