"""The web page without a browser: addresses, limits, and files that must not stay."""

import json
import signal
import socket
import time
from pathlib import Path

import pytest
from page_server import SECONDS, served
from processes import call_tool, free_port

pytest.importorskip('gradio', reason='gradio is not installed: make test-web installs it')

import httpx

from dit_sam.apis import ReferringInferencer
from dit_sam.web import page as page_module


def test_files_are_deleted_when_the_page_is_stopped(tmp_path, photo):
    """As by a service or container. Gradio's own folder is not needed, which may belong to another user."""
    (tmp_path / 'gradio').write_text('')
    with served(tmp_path) as address:
        httpx.post(f'{address}/gradio_api/upload', files=dict(files=('private.png', photo.read_bytes())))
        assert list(tmp_path.rglob('private.png'))
    assert not list(tmp_path.rglob('private.png')) and not list(tmp_path.glob('dit_sam_web_*'))


def test_ipv6_is_served_until_the_terminal_closes(tmp_path, photo):
    if not socket.has_ipv6 or not Path('/proc/net/if_inet6').exists():
        pytest.skip('this machine has no IPv6')
    port = free_port()
    with served(tmp_path, '--host', '::1', '--port', port, ending=signal.SIGHUP) as address:
        assert address == f'http://[::1]:{port}'
        assert httpx.get(address, timeout=SECONDS).status_code == 200
        assert httpx.get(address, timeout=SECONDS, headers=dict(host='evil.example')).status_code == 400
        httpx.post(f'{address}/gradio_api/upload', files=dict(files=('private.png', photo.read_bytes())))
        assert list(tmp_path.rglob('private.png'))
    assert not list(tmp_path.glob('dit_sam_web_*'))


def test_other_names_of_this_machine_are_refused(address):
    """A site that lets its own name point here must not read the page."""
    port = address.rpartition(':')[2]
    for host, status in (
        ('127.0.0.1', 200),
        (f'LocalHost:{port}', 200),
        (f'[::1]:{port}', 200),
        ('evil.example', 400),
        (f'evil.example:{port}', 400),
        ('localhost.evil.example', 400),
        ('', 400),
    ):
        for path in ('', '/config'):
            found = httpx.get(address + path, timeout=SECONDS, headers=dict(host=host))
            assert found.status_code == status, host
    assert 'open it at localhost' in found.text


def test_too_large_uploads_are_refused(address):
    for size, status in ((20_000_000, 200), (20_000_001, 413)):
        found = httpx.post(f'{address}/gradio_api/upload', files=dict(files=('a.png', bytes(size))), timeout=SECONDS)
        assert found.status_code == status, found.text


def ask(address: str, picture: str, sentences: str) -> list[dict]:
    """What the page answers to a question, message by message."""
    functions = httpx.get(f'{address}/config', timeout=SECONDS).json()['dependencies']
    asked = next(one['id'] for one in functions if len(one['inputs']) == 3 and len(one['outputs']) == 5)
    data = [dict(path=picture, meta={'_type': 'gradio.FileData'}), sentences, None]
    question = dict(data=data, fn_index=asked, session_hash='a')
    httpx.post(f'{address}/gradio_api/queue/join', json=question, timeout=SECONDS)
    messages = []
    with httpx.stream('GET', f'{address}/gradio_api/queue/data?session_hash=a', timeout=SECONDS) as answer:
        lines = (line.removeprefix('data:') for line in answer.iter_lines() if line.startswith('data:'))
        for message in map(json.loads, lines):
            messages.append(message)
            if message['msg'] == 'process_completed':
                break
    return messages


def test_addresses_are_not_fetched(address):
    """Gradio would fetch a picture of any size before `check_picture` refuses it. Port 9 is closed."""
    done = ask(address, 'http://127.0.0.1:9/a.png', 'a star')[-1]
    assert 'a picture is a file: drop one' in json.dumps(done)


def test_visitors_are_told_of_sentences_that_are_cut(address, photo):
    uploads = httpx.post(
        f'{address}/gradio_api/upload', files=dict(files=('a.png', photo.read_bytes())), timeout=SECONDS
    )
    for sentences, number in (('a star', None), ('a star\n' + 'the red circle ' * 13, 2)):
        *messages, done = ask(address, uploads.json()[0], sentences)
        assert done['success']
        said = [message['log'] for message in messages if message['msg'] == 'log']
        assert len(said) == bool(number)
        if number:
            assert said[0].startswith(f'The end of sentence {number} was not read: this model reads 20 tokens')


def test_uploads_are_deleted_after_an_hour(photo, tmp_path, monkeypatch):
    """Here the hour is a second. Gradio deletes the uploads and its own copies."""
    assert page_module.HOUR == 3600 and page_module.SWEEP <= 300
    for name in ('HOUR', 'SWEEP'):
        monkeypatch.setattr(page_module, name, 1)
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path / 'cache'))
    page = page_module.Page(ReferringInferencer(device='cpu'), [[str(photo), 'a star']])
    try:
        address = page_module.launch(page, '127.0.0.1', None, prevent_thread_lock=True, quiet=True)[1]
        found = httpx.post(f'{address}gradio_api/upload', files=dict(files=('a.png', photo.read_bytes())))
        handed_in = Path(found.json()[0])
        assert handed_in.read_bytes() == photo.read_bytes()
        end = time.monotonic() + 30
        while handed_in.exists() and time.monotonic() < end:
            time.sleep(0.2)
        assert not handed_in.exists() and photo.exists()
    finally:
        page.blocks.close()


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--config', 'a.py'], '--config without --checkpoint: name the weights of that config'),
        (['--model', 'none'], "no model at 'none'"),
        (['--model', 'a', '--checkpoint', 'a.pth'], '--model brings its config and weights'),
        (['--config', 'none.py', '--checkpoint', 'a.pth'], 'config none.py not found'),
        (['--checkpoint', 'a.pth'], 'a.pth without a config: name the config too'),
        (['--device', 'zebra'], "there is no device 'zebra' here"),
        (['--host', '300.1.2.3'], '300.1.2.3, port any, cannot be served: '),
        (['--host', 'fe80::1%eth0'], '--host fe80::1%eth0: Gradio takes no address with a zone; name one without %'),
        (['--port', 'TAKEN'], 'cannot be served: Address already in use'),
        (['--port', '70000'], '--port must be from 1 to 65535, got 70000'),
    ],
)
def test_startup_errors_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        arguments = [str(taken.getsockname()[1]) if text == 'TAKEN' else text for text in arguments]
        assert call_tool('webdemo.py', *arguments) in (1, 2)
    assert message in capsys.readouterr().err.splitlines()[-1]
