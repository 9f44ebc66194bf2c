"""What computes a convolution, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from jaxdirect import _compat, _ffi
from jaxdirect.conv import _explicit, _ops, _plan, _problem
from jaxdirect.conv.rules import Choice


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What computes a convolution and its gradients; prints as a table.

    Attributes:
        platform: `"cpu"`, `"cuda"` or another.
        convolution: the sizes in canonical form, or why there are none.
        forward: what computes the result.
        lhs_gradient: what computes the gradient of lhs.
        rhs_gradient: what computes the gradient of rhs.
    """

    platform: str
    convolution: str
    forward: Choice
    lhs_gradient: Choice
    rhs_gradient: Choice

    def __str__(self) -> str:
        rows = {
            "forward": self.forward,
            "gradient of lhs": self.lhs_gradient,
            "gradient of rhs": self.rhs_gradient,
        }
        lines = [f"{_ops.OP} on {self.platform}: {self.convolution}"]
        for name, choice in rows.items():
            code = f"native {choice.kernel}" if choice.native else "XLA"
            time = "" if choice.milliseconds is None else f", {choice.milliseconds:.3f} ms expected"
            lines.append(f"  {name:<16} {code}: {choice.reason}{time}")
        return "\n".join(lines)


def explain(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    *,
    implementation: str = "auto",
    platform: str | None = None,
) -> Explanation:
    """Says what computes a convolution and each of its gradients, and why.

    Args:
        lhs: as `jaxdirect.conv_general_dilated` takes it, or a `jax.ShapeDtypeStruct`.
        rhs: likewise.
        window_strides: this and all that follows as there.
        padding: as there.
        lhs_dilation: as there.
        rhs_dilation: as there.
        dimension_numbers: as there.
        feature_group_count: as there.
        batch_group_count: as there.
        precision: as there.
        preferred_element_type: as there.
        out_sharding: as there.
        implementation: as there.
        platform: `"cpu"` or `"cuda"`, if built here; by default the one that calls run on.

    Returns:
        An `Explanation`, made to be printed.

    Raises:
        ValueError: as the convolution itself.
        TypeError: as the convolution itself.

    Example:
        >>> import jax, jaxdirect
        >>> images = jax.ShapeDtypeStruct((8, 3, 32, 32, 32), "float32")
        >>> filters = jax.ShapeDtypeStruct((16, 3, 3, 3, 3), "float32")
        >>> why = jaxdirect.conv.explain(images, filters, (1, 1, 1), "SAME", platform="cuda")
        >>> why.forward.native
        False
        >>> why.forward.reason
        'it has 3 spatial dimensions, native code takes 1 and 2'
    """
    _ffi.check_implementation(_ops.OP, implementation, _explicit.NAME)
    arguments = {
        "window_strides": window_strides,
        "padding": padding,
        "lhs_dilation": lhs_dilation,
        "rhs_dilation": rhs_dilation,
        "dimension_numbers": dimension_numbers,
        "feature_group_count": feature_group_count,
        "batch_group_count": batch_group_count,
        "precision": precision,
        "preferred_element_type": preferred_element_type,
        "out_sharding": out_sharding,
    }
    traced = _problem.trace(lhs, rhs, arguments)
    if traced is None:
        jax.eval_shape(lambda x, w: jax.lax.conv_general_dilated(x, w, **arguments), lhs, rhs)
        raise ValueError(f"{_ops.OP}: JAX refuses these arguments")
    where = _compat.default_platform() if platform is None else platform
    force, explicit = implementation == "native", implementation == _explicit.NAME
    plan = _plan.plan(traced, where, force=force, explicit=explicit)
    if implementation == "reference":
        asked = Choice(False, None, "implementation='reference' asks for it")
        choices = [asked] * 3
    else:
        choices = list(plan.choices.values())
    problem = plan.problem
    sizes = "no canonical form" if isinstance(problem, str) else str(problem.geometry)
    return Explanation(where, sizes, *choices)
