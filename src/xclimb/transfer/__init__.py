"""Transfer: the named methods, and the one function that runs them.

This package and the public function have the same name, and an import of ``xclimb.transfer.<module>`` binds whatever stands in
``sys.modules`` under ``"xclimb.transfer"`` to the attribute ``xclimb.transfer``. So the function stands there, with the path
and the modules of this package as its attributes: ``xclimb.transfer`` is an ordinary function whichever import came first, and
``import xclimb.transfer.methods`` works as with any package.
"""

import sys
from types import ModuleType

from xclimb.transfer import api

_package = {"__path__": __path__, "__spec__": __spec__, "__package__": __package__, "__file__": __file__}
_modules = {name: value for name, value in globals().items() if isinstance(value, ModuleType) and name != "sys"}
vars(api.transfer).update(_package | _modules)
api.transfer.__name__ = __name__  # "from xclimb.transfer import session" looks for the module of this name
sys.modules[__name__] = api.transfer  # type: ignore[assignment]
