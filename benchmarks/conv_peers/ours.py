"""jaxdirect's side of the convolution benchmark."""

from __future__ import annotations

from collections.abc import Callable

# By which a forced implementation says, when traced, that it does not cover a case.
REFUSALS = (ValueError, NotImplementedError, RuntimeError)


def missing() -> str | None:
    """Why jaxdirect's convolution cannot be measured, or None."""
    try:
        import jaxdirect
    except ImportError as error:
        return f"no jaxdirect: {error}"
    if not hasattr(jaxdirect, "conv_general_dilated"):
        return "this jaxdirect has no conv_general_dilated"
    return None


def function() -> Callable:
    """`jaxdirect.conv_general_dilated`."""
    import jaxdirect

    return jaxdirect.conv_general_dilated
