"""One self-contained HTML page out of a run or study folder."""

from xclimb.report.folder import RunFolder, StudyFolder, read_folder
from xclimb.report.page import write_report

__all__ = ["RunFolder", "StudyFolder", "read_folder", "write_report"]
