"""The run-time type checker of the tests, which jaxtyping's import hook puts around every function of xclimb."""

from typing import Self

from beartype import BeartypeConf, FrozenDict, beartype

# beartype knows Self only in classes that it decorates as a whole, and the hook decorates one function at a time
typechecked = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: object})))
