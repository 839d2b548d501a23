"""TensorFlow Probability behind a name that loads it when the first distribution is made.

Importing it takes seconds, and a program may load a model's class without using one.
"""

from typing import Any

import wrapt

tfd: Any = wrapt.lazy_import("tensorflow_probability", "distributions")
tfb: Any = wrapt.lazy_import("tensorflow_probability", "bijectors")
