"""Studies: many transfers over a grid of settings, resumable, and the tables made of them."""
