"""What is compared: predictions with labels (``metrics``), functional with functional (``shift``)."""
