"""Where training locations lie on slides, what is cropped there, and in which batches it comes."""
