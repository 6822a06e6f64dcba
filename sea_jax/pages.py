"""HTML for people, one file without scripts: a page, tables, figures and pictures inside it."""

import base64
import html
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from sea_jax import files

THUMBNAIL = 64
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .6rem 0; } td, th { padding: .2rem .7rem; text-align: left; vertical-align: top; }
th { border-bottom: 1px solid #999; } tr:nth-child(even) td { background: #f6f6f6; } .n { text-align: right; }
img { max-width: 100%; } td img { display: block; margin-bottom: .2rem; } small { color: #666; } code { word-break: break-all; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page of parts that are HTML."""
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title><style>{STYLE}</style>"
    return "\n".join([f"<!doctype html><html lang='en'>{head}", f"<h1>{html.escape(title)}</h1>", *parts, "</html>"])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are HTML."""
    cells = lambda row, tag: "".join(f"<{tag}>{cell}</{tag}>" for cell in row)  # noqa: E731
    head = [*head, *[""] * (max(map(len, rows), default=0) - len(head))] if head else []
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    top = f"<tr>{cells(head, 'th')}</tr>" if head else ""
    return f"<table>{top}{body}</table>"


def png(figure) -> bytes:
    """A matplotlib figure as PNG."""
    held = io.BytesIO()
    figure.savefig(held, dpi=90, format="png", metadata={"Software": None})
    return held.getvalue()


def image(picture: bytes, words: str) -> str:
    """A PNG inside the page; `words` say what it shows."""
    return f"<img alt='{html.escape(words)}' src='data:image/png;base64,{base64.b64encode(picture).decode()}'>"


def card(name: str, picture: str, root: str | os.PathLike | None) -> str:
    """An item: its small picture, if there is one, and its name."""
    shown = thumbnail(picture, root)
    image = f"<img alt='' src='data:image/jpeg;base64,{shown}'>" if shown else ""
    return f"{image}{html.escape(name[:60])} "


def thumbnail(path: str, root: str | os.PathLike | None) -> str:
    """A small JPEG of a picture in base 64; empty if there is no such file, or it is no picture, or lies elsewhere."""
    file = Path(path) if root is None else files.within(root, path)
    if not path or "://" in path or file is None or not file.is_file():
        return ""
    try:
        from PIL import Image

        with Image.open(file) as opened:
            opened.draft("RGB", (THUMBNAIL, THUMBNAIL))
            image = opened.convert("RGB")
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            held = io.BytesIO()
            image.save(held, format="jpeg", quality=85)
    except Exception:  # Pillow raises many kinds for what is no picture; a page can do without
        return ""
    return base64.b64encode(held.getvalue()).decode()
