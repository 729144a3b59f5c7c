"""One self-contained HTML page out of a run, study or shift folder."""

from xclimb.report.folder import RunFolder, ShiftFolder, StudyFolder, read_folder
from xclimb.report.page import write_report

__all__ = ["RunFolder", "ShiftFolder", "StudyFolder", "read_folder", "write_report"]
