"""Training: the loss, the batches, the steps, and the folder that a run leaves."""
