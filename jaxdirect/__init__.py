"""Getting data to the GPU without waste, for JAX."""

from jaxdirect._ffi import export_checks
from jaxdirect.hostmem.gather import gather
from jaxdirect.hostmem.unified import empty, is_unified, unified

__all__ = ["empty", "export_checks", "gather", "is_unified", "unified"]
