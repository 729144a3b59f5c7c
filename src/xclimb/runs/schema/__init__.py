"""Schema of the files of run, study and shift folders, shared by what writes them and what reads them."""

from xclimb.runs.schema.base import check, read_content, read_lines
from xclimb.runs.schema.predictions import Predicted, Predictions
from xclimb.runs.schema.run import Epoch, Errors, Evaluation, RunRecord, line_schema
from xclimb.runs.schema.shift import read_shift
from xclimb.runs.schema.study import Measurement, ResultsTable, StudyPredictions, StudyRecord, read_results

__all__ = [
    "Epoch", "Errors", "Evaluation", "Measurement", "Predicted", "Predictions", "ResultsTable", "RunRecord",
    "StudyPredictions", "StudyRecord", "check", "line_schema", "read_content", "read_lines",
    "read_results", "read_shift",
]  # fmt: skip
