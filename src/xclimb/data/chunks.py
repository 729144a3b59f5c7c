"""A column that lies in several files: rows are fetched from where they are, so that a store may be larger than the memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class Chunks(NDArrayOperatorsMixin):
    """Several arrays, one behind the other, that are used as one and never joined to fetch rows.

    Rows by index, slice or mask are copied out of their pieces. Whatever else is done with an array (arithmetic, its methods,
    NumPy's functions) is done with all of it in memory.

    Args:
        pieces: the arrays; all but the first axis are alike.
    """

    def __init__(self, pieces: Sequence[np.ndarray]):
        self.pieces = list(pieces)
        self.starts = np.concatenate([[0], np.cumsum([len(piece) for piece in self.pieces])])
        self.dtype = np.result_type(*self.pieces)
        self.shape = (int(self.starts[-1]), *self.pieces[0].shape[1:])
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return self._rows(np.arange(*key.indices(len(self))))
        index = np.asarray(key)
        if index.ndim != 1 or index.dtype.kind not in "bi" or isinstance(key, tuple):
            return self.__array__()[key]
        if index.dtype.kind == "b":
            return self.__array__()[index] if len(index) != len(self) else self._rows(np.flatnonzero(index))
        if ((index < -len(self)) | (index >= len(self))).any():
            raise IndexError(f"rows {index.min()} to {index.max()} are asked for of {len(self)}")
        return self._rows(np.where(index < 0, index + len(self), index))

    def _rows(self, index: np.ndarray) -> np.ndarray:
        out = np.empty((len(index), *self.shape[1:]), dtype=self.dtype)
        where = np.searchsorted(self.starts, index, side="right") - 1
        for p in np.unique(where):
            chosen = where == p
            out[chosen] = self.pieces[p][index[chosen] - self.starts[p]]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate(self.pieces).astype(dtype or self.dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = [one.__array__() if isinstance(one, Chunks) else one for one in inputs]
        return getattr(ufunc, method)(*arrays, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("pieces", "starts"):
            raise AttributeError(name)
        return getattr(self.__array__(), name)
