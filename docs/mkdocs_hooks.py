"""Shows named code blocks, ```python FILE, as blocks that Python-Markdown knows, under the name of the file."""

import re


def on_page_markdown(markdown: str, **kwargs: object) -> str:
    return re.sub(r'^```(\w+) (\S+)$', r'`\2`:\n\n```\1', markdown, flags=re.MULTILINE)
