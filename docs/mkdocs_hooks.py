"""Makes the named code blocks of the pages, ```python FILE, blocks that Python-Markdown knows, under the file's name."""

import re


def on_page_markdown(markdown: str, **kwargs: object) -> str:
    return re.sub(r'^```(\w+) (\S+)$', r'`\2`:\n\n```\1', markdown, flags=re.MULTILINE)
