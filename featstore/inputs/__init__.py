"""From an item's bytes to what a backbone takes: pixels or token ids, and the previews kept beside them."""
