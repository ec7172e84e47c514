"""Deep Region Competition (Yu et al., NeurIPS 2021): the method, and nothing of how it is benchmarked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drc.method import DRC

__all__ = ["DRC"]


def __getattr__(name: str) -> Any:
    """DRC itself is imported when it is asked for, so that `import drc` stays light."""
    if name == "DRC":
        from drc.method import DRC

        return DRC
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
