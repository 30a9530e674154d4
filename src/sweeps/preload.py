"""Imported by the server that forks the runs of a sweep: does once what each of them would do."""

from .. import plots  # noqa: F401
from ..run import lifecycle  # noqa: F401
from ..run.code import commit
from ..run.summary import versions
from . import workers  # noqa: F401

commit()
versions()
