"""Where samples lie: images -> embeddings."""

from nextmask.features.encoders import ENCODERS, Encoder, Encoding, EncodingSegmenter, intensity
from nextmask.features.store import EmbeddingStore, embed_pool

__all__ = ["ENCODERS", "EmbeddingStore", "Encoder", "Encoding", "EncodingSegmenter", "embed_pool", "intensity"]
