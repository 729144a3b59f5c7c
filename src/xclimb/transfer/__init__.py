"""Transfer: the named methods, and the one function that runs them.

This package and the public function have the same name. As soon as anything imports a module of the package, Python binds
the package to ``xclimb.transfer``, over whatever stood there. So the package itself can be called: ``xclimb.transfer(...)``
is :func:`xclimb.transfer.fit.transfer`, whichever of the two was imported first, and ``xclimb.transfer.methods`` still works.
"""

import inspect
import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """A package that passes calls on to its function ``fit.transfer``, and shows that function's signature."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        from xclimb.transfer.fit import transfer

        return transfer(*args, **settings)

    @property
    def __signature__(self) -> inspect.Signature:
        from xclimb.transfer.fit import transfer

        return inspect.signature(transfer)


sys.modules[__name__].__class__ = _CallablePackage
