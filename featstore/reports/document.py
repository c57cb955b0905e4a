"""The HTML around a report: no request leaves it, and nothing of strangers can run in it."""

from __future__ import annotations

import base64
import hashlib

from featstore.reports.markup import Markup, element

__all__ = ["document"]


def document(title: str, body: str, *, style: str, script: str | None = None) -> str:
    """A whole page in one file.

    Args:
        title: What the browser shows as its name.
        body: Its content, markup.
        style: Its style.
        script: Its script; without one the page allows none.
    """
    # By their digests: whatever else should ever get into the page as a style or a script does nothing.
    allowed = {"style-src": _digest(style), "script-src": _digest(script) if script else "'none'", "img-src": "data:"}
    policy = "; ".join(["default-src 'none'", *(f"{k} {v}" for k, v in allowed.items()), "base-uri 'none'"])
    head = element(
        "head",
        None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": f"{policy}; form-action 'none'"}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "referrer", "content": "no-referrer"}),
        element("meta", {"name": "generator", "content": "featstore"}),
        element("link", {"rel": "icon", "href": "data:,"}),
        element("title", None, title),
        element("style", None, Markup(style)),
    )
    end = [element("script", None, Markup(script))] if script else []
    return f"<!doctype html>\n{element('html', {'lang': 'en'}, head, element('body', None, body, *end))}\n"


def _digest(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode('utf-8')).digest()).decode('ascii')}'"
