"""Comparison of predictions with labels (``metrics``) and of functional with functional (``shift``)."""
