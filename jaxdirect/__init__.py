"""Getting data to the GPU without waste, for JAX."""

from jaxdirect._ffi import export_checks
from jaxdirect._info import include_dir, show_config
from jaxdirect.conv.general import conv_general_dilated
from jaxdirect.hostmem.cache import cache_rows
from jaxdirect.hostmem.cached_table import CachedTable
from jaxdirect.hostmem.csr import CSRGraph
from jaxdirect.hostmem.explain import explain_gather
from jaxdirect.hostmem.gather import gather
from jaxdirect.hostmem.sample import SampledNeighbors, sample_neighbors
from jaxdirect.hostmem.unified import empty, is_unified, unified

__all__ = [
    "CSRGraph",
    "CachedTable",
    "SampledNeighbors",
    "cache_rows",
    "conv_general_dilated",
    "empty",
    "explain_gather",
    "export_checks",
    "gather",
    "include_dir",
    "is_unified",
    "sample_neighbors",
    "show_config",
    "unified",
]
