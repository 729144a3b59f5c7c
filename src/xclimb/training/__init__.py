"""Training: the loss, the batches, the steps, and the run folder."""
