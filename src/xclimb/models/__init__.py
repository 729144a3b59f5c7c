"""Networks, potentials made from them, their files and their names.

Every folder of this package is an architecture and registers itself; those of other distributions are imported by their
entry points of the group ``xclimb.architectures``.
"""

import warnings
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules

from xclimb.errors import XclimbWarning

for _module in iter_modules(__path__):
    if _module.ispkg:
        import_module(f"{__name__}.{_module.name}")
for _entry in entry_points(group="xclimb.architectures"):
    try:
        _entry.load()
    except Exception as _error:  # another distribution may raise any
        warnings.warn(
            f"the architecture {_entry.name!r} ({_entry.value}) cannot be imported: {_error}", XclimbWarning, stacklevel=2
        )
