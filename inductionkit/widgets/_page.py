"""A widget as one HTML file: the same bundle and payload, no kernel, no network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from pathlib import Path

STATIC = Path(__file__).parent / "static"

# The policy lets the page run this very script and nothing else, and fetch nothing at all.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'sha256-{script_hash}'; \
style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<meta name="description" content="{summary}">
<meta property="og:type" content="website">
<meta property="og:title" content="{title}">
<meta property="og:description" content="{summary}">
<meta name="twitter:card" content="summary">
<style>{style}</style>
</head>
<body>
<main id="inductionkit-root"></main>
<footer id="inductionkit-origin">{origin}</footer>
<noscript>This page draws its charts with JavaScript.</noscript>
<script type="application/json" id="inductionkit-state">{state}</script>
<script type="application/octet-stream" id="inductionkit-data">{data}</script>
<script type="module">{script}</script>
</body>
</html>
"""


STYLE = """#inductionkit-origin { box-sizing: border-box; max-width: 1320px; margin: 0 auto; padding: 0 24px 20px; \
color: light-dark(#5b6673, #9aa5b1); font: 12px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }"""


def read_bundle(name: str) -> str:
    """The built front end `name`.js; a source checkout must build it once."""
    path = STATIC / f"{name}.js"
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"the front end {path} is not built; install the package (pip install -e .) or run "
            f"`npm ci && npm run build` in {STATIC.parent / 'frontend'}"
        ) from None


def render_page(
    title: str, state: dict[str, object], data: bytes, script: str, summary: str = "", origin: str = ""
) -> str:
    """The page's HTML. `state` holds the traits (JSON), `data` the payload, `script` the bundle.

    `summary` says what it shows in one sentence, `origin` where it comes from; both are plain text.
    """
    script = _script_text(script)
    return PAGE.format(
        title=html.escape(title),
        summary=html.escape(summary),
        origin=html.escape(origin),
        style=STYLE,
        state=_json_text(state),
        data=base64.b64encode(gzip.compress(data, mtime=0)).decode("ascii"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def _json_text(value: object) -> str:
    """JSON that cannot end the script element it stands in, nor break a line of JavaScript."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # Lone surrogates, which a byte-level tokenizer may hand out, cannot be written as UTF-8.
    return re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _script_text(script: str) -> str:
    """A script that an HTML parser reads to its own end: `</script` and `<!--` only ever stand in literals."""
    script = re.sub(r"</(?=script)", r"<\\/", script, flags=re.IGNORECASE)
    return script.replace("<!--", "\\x3C!--").replace("\r", "")
