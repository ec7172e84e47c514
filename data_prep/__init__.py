"""From raw archives to prepared data sets: images, object masks, an index and a manifest in one folder."""
