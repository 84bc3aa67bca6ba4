"""Methods for kzoo that learn from few labels and many unlabelled images: S4L."""
