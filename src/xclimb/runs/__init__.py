"""Run folders: what a training leaves on disk, its states for resume, its loggers and its progress."""
