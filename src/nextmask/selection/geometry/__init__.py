"""Distances, clusters and neighbours, exact and in blocks: what the strategies on embeddings are made of."""
