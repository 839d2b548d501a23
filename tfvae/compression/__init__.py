"""Lossless files of the size of the ELBO: bits-back coding with asymmetric numeral systems.

``compress`` writes events into as many bits as the model's negative ELBO says, and ``decompress``
returns them, bit for bit (Townsend, Bird and Barber 2019, arXiv:1901.04866; Townsend et al. 2020,
arXiv:1912.09953, for groups of latents). It needs the extra ``tfvae[compress]``. Names load on
first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tfvae.lazy import submodules

_NAMES = {
    "Compressed": "coder",
    "Decompressed": "coder",
    "compress": "coder",
    "compress_events": "coder",
    "decompress": "coder",
    "decompress_events": "coder",
}
__all__ = [
    "Compressed",
    "Decompressed",
    "compress",
    "compress_events",
    "decompress",
    "decompress_events",
]

if TYPE_CHECKING:
    from tfvae.compression.coder import (
        Compressed,
        Decompressed,
        compress,
        compress_events,
        decompress,
        decompress_events,
    )

_submodule, _names = submodules(__name__)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    return _submodule(name)


def __dir__() -> list[str]:
    return sorted({*_names(), *__all__})
