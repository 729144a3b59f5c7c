"""Formats of files with labelled structures, one module each."""
