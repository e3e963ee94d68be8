"""What the site has beyond the files of docs/: the notebook, a page for each package, and names of code blocks."""

import json
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

NOTEBOOK = 'demo/dit_sam_tutorial.ipynb'
# The pages of the Python interface and what they show. The last one of utils is a function whose module hides it.
API = dict(
    apis=['apis'],
    models=['models', 'structures'],
    datasets=['datasets', 'datasets.shapes'],
    evaluation=['evaluation'],
    scoring=['scoring'],
    mmengine_extras=['mmengine_extras'],
    engine=['engine', 'engine.launch'],
    visualization=['visualization'],
    utils=['utils', 'errors', 'utils.weight_files.weight_files'],
)


def on_files(files: Files, config: MkDocsConfig) -> None:
    root = Path(config.config_file_path).parent
    notebook = json.loads((root / NOTEBOOK).read_text(encoding='utf-8'))
    pages = {'tutorial.md': '\n\n'.join(map(_cell, notebook['cells']))}
    for page, modules in API.items():
        pages[f'api/{page}.md'] = '\n\n'.join(f'::: dit_sam.{name}' for name in modules)
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))


def on_page_markdown(markdown: str, **kwargs: object) -> str:
    markdown = markdown.replace(f'(../{NOTEBOOK})', '(tutorial.md)')
    # Python-Markdown does not know names of files in ```python FILE; they become a line above the block.
    return re.sub(r'^```(\w+) (\S+)$', r'`\2`:\n\n```\1', markdown, flags=re.MULTILINE)


def _cell(cell: dict) -> str:
    """A cell of the notebook and its outputs as Markdown."""
    source = ''.join(cell['source'])
    if cell['cell_type'] == 'markdown':
        return source.replace('](../docs/', '](')
    return '\n\n'.join([f'```python\n{source}\n```', *map(_output, cell['outputs'])])


def _output(output: dict) -> str:
    data = output.get('data', {'text/plain': output.get('text', '')})
    if 'image/png' in data:
        return f'![output](data:image/png;base64,{"".join(data["image/png"]).strip()})'
    return f'```text\n{"".join(data["text/plain"]).rstrip()}\n```'
