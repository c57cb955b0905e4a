"""featstore: embeddings of images and texts, kept as features."""
