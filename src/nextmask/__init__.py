"""nextmask: which medical images to annotate first, and next; and how good a segmenter they train."""
