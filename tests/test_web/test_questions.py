"""What the page checks without gradio: questions, the names it is called by, and the folder of a running page."""

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from dit_sam.errors import InputError
from dit_sam.web import folders, hosts, questions


def hold(started: Connection) -> None:
    """Keep the folder of a page until a signal ends the process."""
    folders.end_by_signals()
    with folders.page_folder() as folder:
        started.send(folder)
        time.sleep(600)


def test_a_too_large_file_is_not_opened(tmp_path):
    with open(tmp_path / 'heavy.png', 'wb') as file:
        file.truncate(questions.MAX_BYTES + 1)
    with pytest.raises(InputError, match='the picture has more than 20 megabytes: save it smaller'):
        questions.check_picture(str(tmp_path / 'heavy.png'))
    os.truncate(tmp_path / 'heavy.png', questions.MAX_BYTES)
    with pytest.raises(InputError, match='heavy.png is not a picture'):
        questions.check_picture(str(tmp_path / 'heavy.png'))


def test_lines_of_sentences_end_at_line_feeds():
    assert questions.split_sentences('the red\u2028star\r\n\n a box\x85\n') == ['the red\u2028star', 'a box']


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGHUP', 'SIGKILL'])
def test_folders_do_not_outlive_their_page(name, tmp_path, monkeypatch):
    """A signal ends the program, which deletes its folder; what a killed one leaves is deleted by the next one."""
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    monkeypatch.setattr('tempfile.tempdir', None)
    # Of others: a folder without a lock, a file, and a link to a folder.
    (tmp_path / 'dit_sam_web_other').mkdir()
    (tmp_path / 'dit_sam_web_file').write_text('')
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere' / '.lock').write_text('1')
    (tmp_path / 'dit_sam_web_link').symlink_to('elsewhere')
    others = sorted(tmp_path.iterdir())
    # Forked, without the seconds that importing the package takes.
    context = multiprocessing.get_context('fork')
    receives, sends = context.Pipe(duplex=False)
    process = context.Process(target=hold, args=(sends,))
    process.start()
    folder = Path(receives.recv())
    (folder / 'private.png').write_text('')
    with folders.page_folder() as own:
        assert (folder / 'private.png').exists()
        os.kill(process.pid, getattr(signal, name))
        process.join()
        assert process.exitcode == (-signal.SIGKILL if name == 'SIGKILL' else 0)
        assert folder.exists() == (name == 'SIGKILL')
        folders.remove_left_folders()
        assert sorted(tmp_path.iterdir()) == sorted([*others, Path(own)])
    assert sorted(tmp_path.iterdir()) == others and (tmp_path / 'elsewhere' / '.lock').exists()


def test_a_page_goes_on_under_nohup(monkeypatch):
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        folders.end_by_signals()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        # The folder is being deleted.
        signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_only_pages_of_this_machine_check_their_name():
    assert hosts.allowed_names('127.0.0.2') == {'127.0.0.2', 'localhost', '127.0.0.1', '::1'}
    assert hosts.allowed_names('LOCALHOST') == hosts.allowed_names('::1') == set(hosts.LOCAL_NAMES)
    assert hosts.allowed_names('0.0.0.0') is hosts.allowed_names('::') is hosts.allowed_names('192.0.2.1') is None
    for header, name in (
        ('a.b:80', 'a.b'),
        ('A.b', 'a.b'),
        ('[::1]:80', '::1'),
        ('[::1]', '::1'),
        ('::1', ''),
        ('', ''),
        ('[::1', '::1'),
        ('[::1]evil', '::1'),
    ):
        assert hosts.name_in(header) == name
    assert [hosts.bracketed(host) for host in ('::1', 'localhost')] == ['[::1]', 'localhost']
