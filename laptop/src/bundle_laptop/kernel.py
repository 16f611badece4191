"""What the first cell of a notebook imports: what a workspace gives every notebook."""

import os
import warnings
from contextlib import ExitStack
from pathlib import Path

from bundle_laptop.dbutils import namespace
from bundle_laptop.world import FOLDER_VARIABLE, entered

warnings.filterwarnings("ignore", "IProgress not found")  # by tqdm: a page has no widgets

if "SPARK_REMOTE" not in os.environ and os.environ.get(FOLDER_VARIABLE):
    # Nobody's session to share: opened by itself, it has one of its own.
    from bundle_laptop.spark import spark_in

    _folder, _entered = Path(os.environ[FOLDER_VARIABLE]), ExitStack()  # for as long as the kernel lives
    _entered.enter_context(entered(_folder))
    _entered.enter_context(spark_in(_folder))

_found = namespace()
dbutils, display, spark, sql, table = (_found[name] for name in ("dbutils", "display", "spark", "sql", "table"))
