"""Names for clusters, proposed from the words that come with their images: captions, metadata, folders."""
