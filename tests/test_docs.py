"""The code on the pages of docs/ runs unchanged, and the notebook with fewer pictures.

A fenced block whose first line names a file, as in ```python gated_text.py, is written under that name into a folder
that represents the repository's root: a config (it has a `_base_`) is then loaded and its model built, any other Python
file imported. Other tests use the same files by name.
"""

import importlib
import json
import re
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

import dit_sam
from dit_sam.utils import decode_rle

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / 'demo' / 'dit_sam_tutorial.ipynb'
BLOCK = re.compile(r'^```(\w+) (\S+)\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str = 'python') -> dict[str, str]:
    """The blocks of a page by the file that they name."""
    text = (ROOT / 'docs' / page).read_text(encoding='utf-8')
    return {name: code for found, name, code in BLOCK.findall(text) if found == language}


PAGES = sorted(path.name for path in (ROOT / 'docs').glob('*.md') if blocks(path.name))


@pytest.fixture
def write_blocks(tmp_path, monkeypatch) -> Callable:
    """`write_blocks(page)` writes the named blocks of a page where Python finds them, and returns the paths."""

    def write(page: str) -> dict[str, Path]:
        paths = {name: tmp_path / name for name in blocks(page)}
        for name, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(blocks(page)[name], encoding='utf-8')
        (tmp_path / 'configs').symlink_to(ROOT / 'configs')
        monkeypatch.syspath_prepend(tmp_path)
        return paths

    return write


def build_on_meta(model: dict) -> nn.Module:
    """Every module with its shapes, without the gigabytes."""
    # Constructors of mmseg read their dropout rates from a tensor, which is impossible on the meta device.
    with torch.device('meta'), mock.patch('torch.linspace', partial(torch.linspace, device='cpu')):
        return MODELS.build(deepcopy(model))


@pytest.mark.parametrize('page', PAGES)
def test_named_blocks_run(page, write_blocks):
    paths = write_blocks(page)
    configs = {name for name, code in blocks(page).items() if '_base_' in code}
    for name in paths.keys() - configs:
        importlib.import_module(name.removesuffix('.py').replace('/', '.'))
    # test_mixing/ tests the blocks of its page in more detail.
    for name in configs if page != 'mixing.md' else ():
        if 'lora' in name:
            pytest.importorskip('peft', reason='LoRA needs peft')
        cfg = Config.fromfile(paths[name])
        init_default_scope(cfg.default_scope)
        assert isinstance(build_on_meta(cfg.model), nn.Module)


@pytest.mark.parametrize('page', [page for page in PAGES if blocks(page, 'bash')])
def test_options_of_named_commands_fit_their_configs(page, write_blocks):
    """A block of commands names a config, a block of the same page, to whose sections its --cfg-options belong."""
    paths = write_blocks(page)
    for name, commands in blocks(page, 'bash').items():
        cfg = Config.fromfile(paths[name])
        options = re.findall(r'(?<= )(\w+(?:\.\w+)+)=', commands)
        assert options
        for option in options:
            # The last name may be an argument that the config leaves at its default.
            assert isinstance(section_of(cfg, option), dict), option


def documented_options() -> list[tuple[str, str]]:
    """Config and option of each `tools/train.py CONFIG --cfg-options OPTION=VALUE` and the like on all pages."""
    found = []
    for file in (
        ROOT / 'README.md',
        ROOT / 'README_zh-CN.md',
        *(ROOT / 'docs').glob('*.md'),
        *ROOT.glob('*/*/README.md'),
    ):
        text = file.read_text(encoding='utf-8')
        commands = '\n'.join(re.findall(r'^```bash.*?\n(.*?)^```', text, re.MULTILINE | re.DOTALL)).replace('\\\n', ' ')
        for config, options in re.findall(r'(configs/\w+/[\w-]+\.py).* --cfg-options (.*)', commands):
            found += [(config, option) for option in re.findall(r'(?:^|\s)([\w{},]+(?:\.\w+)+)=', options)]
    return found


def test_options_of_commands_fit_the_configs_they_name():
    found = documented_options()
    assert len(found) > 30
    for config, option in found:
        # The shell expands {train,val}_dataloader.
        names = re.search(r'\{(.*?)\}', option)
        for name in names[1].split(',') if names else ['']:
            assert isinstance(section_of(Config.fromfile(ROOT / config), re.sub(r'\{.*?\}', name, option)), dict), (
                option
            )


def section_of(cfg: Config, option: str) -> dict:
    """The section to which the last name of an option like `param_scheduler.0.end` belongs."""
    section = cfg
    for part in option.split('.')[:-1]:
        section = section[int(part) if part.isdigit() else part]
    return section


def test_the_data_set_of_boxes_is_read(write_blocks, tmp_path):
    write_blocks('data.md')
    dataset = importlib.import_module('box_dataset').BoxDataset
    (tmp_path / 'boxes.txt').write_text('a.jpg 4 6 1 2 3 1 the red box\nb.jpg 2 2 0 0 1 2 a box\n')
    item = dataset(str(tmp_path / 'boxes.txt'), test_mode=True).get_data_info(0)
    assert (item['text'], item['height'], item['width']) == ('the red box', 4, 6)
    rows, columns = decode_rle(item['segmentation']).nonzero()
    assert (rows.tolist(), columns.tolist()) == ([2, 2, 2], [1, 2, 3])


def samples(*sentences: str) -> dict:
    """A batch of noise pictures whose left half is the target, with these sentences."""
    mask = torch.zeros(1, 64, 64, dtype=torch.long)
    mask[..., :32] = 1
    data_samples = [
        SegDataSample(metainfo=dict(text=text, img_shape=(64, 64), ori_shape=(64, 64)), gt_sem_seg=PixelData(data=mask))
        for text in sentences
    ]
    return dict(
        inputs=[torch.full((3, 64, 64), 50 * i, dtype=torch.uint8) for i, _ in enumerate(sentences)],
        data_samples=data_samples,
    )


def test_the_gated_scheme_builds_forwards_and_learns(write_blocks):
    torch.manual_seed(0)
    assert len(blocks('schemes.md')['gated_text.py'].splitlines()) < 40
    cfg = Config.fromfile(write_blocks('schemes.md')['gated_vit-t_shapes.py'])
    model = MODELS.build(cfg.model)
    model.init_weights()
    instruction = model.backbone.instruction
    assert type(instruction).__name__ == 'GatedTextInstruction'
    assert instruction.gates.shape == (model.backbone.depth, model.backbone.embed_dims)

    def embedding(text: str) -> torch.Tensor:
        with torch.no_grad():
            words = model.text_encoder([text])
            return model.backbone(torch.ones(1, 3, 64, 64), text=words)[0]

    assert torch.equal(embedding('red circle'), embedding('blue square'))  # the gates are shut
    optim_wrapper, data = build_optim_wrapper(model, cfg.optim_wrapper), samples('red circle', 'blue square')
    model.parse_losses(model(**model.data_preprocessor(data, training=True), mode='loss'))[0].backward()
    assert instruction.gates.grad.any(1).all()  # those of every block
    assert model.train_step(data, optim_wrapper)['loss'].isfinite()
    assert instruction.gates.detach().any(1).all()
    assert not torch.equal(embedding('red circle'), embedding('blue square'))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown renderers generate them."""
    headings = re.findall(r'^#+ (.+)$', page.read_text(encoding='utf-8'), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


def text_of(page: Path) -> str:
    """A page, or the text between the code of a notebook."""
    text = page.read_text(encoding='utf-8')
    if page.suffix != '.ipynb':
        return text
    return '\n\n'.join(''.join(cell['source']) for cell in json.loads(text)['cells'] if cell['cell_type'] == 'markdown')


@pytest.mark.parametrize(
    'page',
    sorted(
        str(path.relative_to(ROOT))
        for pages in ('*.md', 'docs/*.md', 'configs/*/*.md', 'docker/*.md', 'demo/*.ipynb')
        for path in ROOT.glob(pages)
    ),
)
def test_links_are_valid(page):
    """Files and headings of this repository; addresses are left alone."""
    path = ROOT / page
    text = re.sub(r'^```.*?^```$|`[^`\n]+`(?!\])', '', text_of(path), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r'\]\((?!\w+://)([^)#\s]*)(?:#([^)\s]+))?\)', text)
    for target, anchor in links:
        file = (path.parent / target) if target else path
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f'{target}#{anchor}'


def outline(page: str) -> dict[str, list[str]]:
    """What a translation keeps: levels of headings, code without comments, links, numbers of tables, code in text."""
    text = (ROOT / page).read_text(encoding='utf-8')
    code = re.findall(r'^```.*?^```$', text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r'^```.*?^```$', '', text, flags=re.MULTILINE | re.DOTALL)
    return dict(
        headings=re.findall(r'^#+(?= )', prose, re.MULTILINE),
        code=[re.sub(r' +#.*$', '', block, flags=re.MULTILINE) for block in code],
        links=sorted(set(re.findall(r'\]\(([^)]+)\)', prose)) - {'README.md', 'README_zh-CN.md'}),
        tables=re.findall(r'(?<=\| )[\d./ ]+(?= \|)', prose),
        names=sorted(re.findall(r'`[^`]+`', prose)),
    )


def test_both_readmes_say_the_same():
    english, chinese = outline('README.md'), outline('README_zh-CN.md')
    for part in english:
        assert chinese[part] == english[part], f'{part} differ: change README.md and README_zh-CN.md together'


def test_issue_forms_are_complete():
    """As GitHub requires them; a form with a fault is not shown."""
    forms = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / '.github/ISSUE_TEMPLATE').glob('*.yml')}
    assert forms.pop('config')['contact_links']
    assert set(forms) == {'bug_report', 'feature_request', 'question'}
    for form in forms.values():
        assert form['name'] and form['description']
        fields = [field for field in form['body'] if field['type'] != 'markdown']
        assert len({field['id'] for field in fields}) == len(fields) and all(
            field['attributes']['label'] for field in fields
        )
    assert '`dit-sam collect-env`' in str(forms['bug_report'])


def kinds_of_outputs(notebook: dict) -> list[list[str]]:
    """What the cells show: text or pictures. Warnings, on stderr, depend on the versions."""
    return [
        [
            sorted(output.get('data', [output['output_type']]))
            for output in cell['outputs']
            if output.get('name') != 'stderr'
        ]
        for cell in notebook['cells']
        if cell['cell_type'] == 'code'
    ]


# Fewer pictures than in the notebook, which shows the same kinds of outputs with them.
SMALLER = {
    'images=60': 'images=20',
    "'train_dataloader.dataset.indices': 112": "'train_dataloader.dataset.indices': 16",
    "'val_dataloader.dataset.indices': 60": "'val_dataloader.dataset.indices': 8",
}


def test_the_notebook_runs_and_has_its_outputs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip('nbclient', reason='nbclient is not installed: pip install -e .[test]')
    nbformat = pytest.importorskip('nbformat')
    for name in ('IPYTHONDIR', 'JUPYTER_RUNTIME_DIR', 'TMPDIR'):
        monkeypatch.setenv(name, str(tmp_path / name))
        (tmp_path / name).mkdir()
    committed = nbformat.read(NOTEBOOK, as_version=4)
    executed = deepcopy(committed)
    for old, new in SMALLER.items():
        (cell,) = (cell for cell in executed.cells if old in cell.source)
        cell.source = cell.source.replace(old, new)
    nbclient.NotebookClient(executed, timeout=300, resources=dict(metadata=dict(path=str(tmp_path)))).execute()
    assert kinds_of_outputs(executed) == kinds_of_outputs(committed)
    assert not list((tmp_path / 'TMPDIR').iterdir())
    assert NOTEBOOK.stat().st_size < 500_000
    # Times would change with each `make notebook`.
    assert not any('execution' in cell.metadata for cell in committed.cells)
    text = '\n'.join(str(output) for cell in committed.cells for output in cell.get('outputs', []))
    assert not re.search(r'(?<![\w.])/(home|root|tmp|usr|work)\b', text)


def test_pages_are_built(tmp_path):
    mkdocs = pytest.importorskip('mkdocs.commands.build', reason='mkdocs is not installed: pip install -e .[docs]')
    pytest.importorskip('mkdocstrings', reason='mkdocstrings is not installed: pip install -e .[docs]')
    from mkdocs.config import load_config

    config = load_config(str(ROOT / 'mkdocs.yml'), strict=True, site_dir=str(tmp_path))
    mkdocs.build(config)
    pages = {path.stem for path in (ROOT / 'docs').glob('*.md')} - {'README'} | {'tutorial'}
    packages = [getattr(dit_sam, name) for name in dit_sam.__all__ if not name.startswith('_')] + [dit_sam.utils]
    index = (tmp_path / 'index.html').read_text(encoding='utf-8')
    for page in pages | {f'api/{package.__name__.split(".")[1]}' for package in packages}:
        assert (tmp_path / page / 'index.html').exists()
        assert f'href="{page}/"' in index, f'{page} is not in the navigation'
    assert 'src="data:image/png;base64,' in (tmp_path / 'tutorial/index.html').read_text(encoding='utf-8')
    for package in packages:
        text = (tmp_path / 'api' / package.__name__.split('.')[1] / 'index.html').read_text(encoding='utf-8')
        for name in filter(lambda name: callable(getattr(package, name)), package.__all__):
            assert re.search(rf'id="{package.__name__}.({name}.)?{name}"', text), f'{name} has no docstring'
        # Formulas and names of files need backticks, or their underscores and stars are read as emphasis.
        assert not re.search(r'<em>|``|:(class|func|meth|mod):', text), package


def test_the_citation_has_the_version_of_the_package():
    assert f'\nversion: {dit_sam.__version__}\n' in (ROOT / 'CITATION.cff').read_text(encoding='utf-8')


def test_no_page_has_a_placeholder():
    """A line of one word in capitals stands for what was not written yet."""
    pages = [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md'), *(ROOT / 'configs').glob('*/*.md')]
    found = [
        (path.name, line) for path in pages for line in path.read_text().splitlines() if re.fullmatch('[A-Z]{4,}', line)
    ]
    assert not found
