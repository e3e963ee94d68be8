"""The web page in headless Chromium, from the upload to the mask; screenshots are kept for inspection.

`make test-web` installs gradio and selenium. Debian has the browser: apt-get install chromium chromium-driver.
"""

import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlparse

import cv2
import numpy as np
import pytest
from processes import ROOT, call_tool

from dit_sam.errors import InputError

TOOL = ROOT / 'tools' / 'webdemo.py'
DRIVER, BROWSER = shutil.which('chromedriver'), shutil.which('chromium') or shutil.which('chromium-browser')
SECONDS = 90

pytest.importorskip('gradio', reason='gradio is not installed: make test-web installs it')
pytest.importorskip('selenium', reason='selenium is not installed: make test-web installs it')
if not (DRIVER and BROWSER):
    pytest.skip('there is no Chromium: apt-get install chromium chromium-driver', allow_module_level=True)

import httpx  # noqa: E402  (comes with gradio)
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402


@pytest.fixture(scope='module')
def address(tmp_path_factory) -> Iterator[str]:
    """The address of the page, served by the tool as a user starts it."""
    folder = tmp_path_factory.mktemp('web')
    environment = {**os.environ, 'TMPDIR': str(folder), 'CUDA_VISIBLE_DEVICES': '', 'PYTHONUNBUFFERED': '1'}
    with open(folder / 'log', 'w+') as log:
        server = subprocess.Popen([sys.executable, str(TOOL)], stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            yield wait_for_address(server, folder / 'log')
        finally:
            server.terminate()
            server.wait(30)


def wait_for_address(server: subprocess.Popen, log: Path) -> str:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and server.poll() is None:
        found = re.search(r'http://\S+', log.read_text())
        if found:
            return found.group()
        time.sleep(0.5)
    raise AssertionError(f'the page did not start: {log.read_text()}')


@pytest.fixture(scope='module')
def browser(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (
        'headless=new',
        'no-sandbox',
        'disable-gpu',
        'disable-dev-shm-usage',
        'no-first-run',
        'disable-background-networking',
        'disable-component-update',
        'disable-sync',
        'disable-quic',
        'window-size=1300,1500',
        f'user-data-dir={tmp_path_factory.mktemp("browser")}',
    ):
        options.add_argument(f'--{argument}')
    options.set_capability('goog:loggingPrefs', dict(performance='ALL'))
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, address) -> webdriver.Chrome:
    """The page, freshly opened."""
    browser.get(address)
    until(browser, lambda: browser.find_elements(By.ID, 'segment'))
    return browser


def until(browser: webdriver.Chrome, there: Callable):
    return WebDriverWait(browser, SECONDS, ignored_exceptions=[Exception]).until(lambda _: there())


def ask(page: webdriver.Chrome, picture: Path | None, sentences: str) -> None:
    """Upload a picture, type and press the button."""
    if picture is not None:
        page.find_element(By.CSS_SELECTOR, 'input[type=file]').send_keys(str(picture))
        until(page, lambda: page.find_elements(By.CSS_SELECTOR, f'img[src*="{picture.name}"]'))
    box = page.find_element(By.CSS_SELECTOR, '#sentences textarea')
    # Sentences of thousands of letters are slow to type.
    page.execute_script(
        'arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event("input"))', box, sentences
    )
    page.find_element(By.ID, 'segment').click()


def picture_in(page: webdriver.Chrome, name: str) -> np.ndarray:
    """The picture that an output of the page shows, BGR, as the browser has loaded it."""
    image = until(
        page,
        lambda: [
            one for one in page.find_elements(By.CSS_SELECTOR, f'#{name} img') if one.get_property('naturalWidth')
        ],
    )[0]
    content = page.execute_async_script(
        'const [image, done] = arguments; fetch(image.src).then(found => found.blob()).then(blob => {'
        'const reader = new FileReader(); reader.onload = () => done(reader.result); reader.readAsDataURL(blob)})',
        image,
    )
    return cv2.imdecode(np.frombuffer(b64decode(content.split(',')[1]), np.uint8), cv2.IMREAD_COLOR)


def refusal_on(page: webdriver.Chrome) -> str:
    return until(page, lambda: page.find_element(By.CSS_SELECTOR, '.toast-body').text)


def screenshot(page: webdriver.Chrome, name: str) -> None:
    folder = ROOT / 'work_dirs' / 'test_web'
    folder.mkdir(parents=True, exist_ok=True)
    page.save_screenshot(str(folder / f'{name}.png'))


@pytest.fixture
def photo(tmp_path) -> Path:
    """A red circle left of a blue square."""
    image = np.full((120, 200, 3), 235, np.uint8)
    cv2.circle(image, (50, 60), 30, (40, 40, 220), -1)
    cv2.rectangle(image, (120, 35), (170, 85), (220, 60, 40), -1)
    cv2.imwrite(str(tmp_path / 'photo.png'), image)
    return tmp_path / 'photo.png'


def test_from_the_upload_to_the_mask(page, photo):
    ask(page, photo, 'the red circle\n\nthe blue square\n')
    drawn = picture_in(page, 'overlay')
    # 480 / 200 = 2.4, so the picture is three times as large: 600 wide, its legend below.
    assert drawn.shape[1] == 600 and drawn.shape[0] > 360 + 40
    # Both masks are laid over their object, in the two first colors: the centers differ from the plain ones.
    for (x, y), plain in (((150, 180), (40, 40, 220)), ((435, 180), (220, 60, 40)), ((300, 20), (235, 235, 235))):
        changed = np.abs(drawn[y, x].astype(int) - plain).max() > 10
        assert changed == (plain != (235, 235, 235)), (x, y)
    cells = until(page, lambda: page.find_element(By.ID, 'table').text).splitlines()
    assert 'the red circle' in cells and 'the blue square' in cells
    areas = [int(cell) for cell in cells if re.fullmatch(r'\d{3,}', cell)]
    assert all(abs(area - truth) < 0.2 * truth for area, truth in zip(areas, (2827, 2601), strict=True))
    screenshot(page, 'masks')


def test_the_attention_of_a_sentence(page, photo):
    ask(page, photo, 'the red circle')
    picture_in(page, 'overlay')
    next(tab for tab in page.find_elements(By.CSS_SELECTOR, '[role=tab]') if tab.text == 'Attention').click()
    until(page, lambda: page.find_element(By.CSS_SELECTOR, '#chosen input').get_property('value') == 'the red circle')
    page.find_element(By.ID, 'look').click()
    maps = picture_in(page, 'maps')
    assert min(maps.shape[:2]) > 300 and np.unique(maps.reshape(-1, 3), axis=0).shape[0] > 1000
    screenshot(page, 'attention')


def test_an_example_is_filled_in_and_segmented(page):
    until(page, lambda: page.find_element(By.CSS_SELECTOR, 'img[src*="shapes_000001"]')).click()
    sentences = until(page, lambda: page.find_element(By.CSS_SELECTOR, '#sentences textarea').get_property('value'))
    assert len(sentences.splitlines()) >= 2
    # The image in the list, and the uploaded one.
    until(page, lambda: len(page.find_elements(By.CSS_SELECTOR, 'img[src*="shapes_000001"]')) == 2)
    page.find_element(By.ID, 'segment').click()
    assert max(picture_in(page, 'overlay').shape) >= 480


def test_invalid_input_is_reported_in_the_page(page, photo, tmp_path):
    cv2.imwrite(str(tmp_path / 'large.png'), np.zeros((5000, 6000), np.uint8))
    (tmp_path / 'text.png').write_text('no picture')
    for picture, sentences, message in (
        (None, 'a star', 'no picture yet: drop one'),
        (photo, ' \n', 'no sentence yet: type what to look for'),
        (photo, 'star\n' * 9, '9 sentences are too many: segment at most 8 at a time'),
        (photo, 'star\n' + 'x' * 201, 'sentence 2 has 201 characters: shorten it to 200'),
        (tmp_path / 'large.png', 'a star', 'the picture has 30 megapixels, more than 25: scale it down'),
        (tmp_path / 'text.png', 'a star', 'text.png is not a picture: use a JPEG, PNG or WebP'),
    ):
        page.refresh()
        until(page, lambda: page.find_elements(By.ID, 'segment'))
        ask(page, picture, sentences)
        said = refusal_on(page)
        assert message in said and str(tmp_path) not in said and '/' not in said
    screenshot(page, 'refusal')


@pytest.fixture(scope='module')
def tool() -> dict:
    return runpy.run_path(str(TOOL))


def test_too_large_uploads_are_refused(address):
    for size, status in ((20_000_000, 200), (20_000_001, 413)):
        found = httpx.post(f'{address}/gradio_api/upload', files=dict(files=('a.png', bytes(size))), timeout=SECONDS)
        assert found.status_code == status, found.text


def test_a_too_large_file_is_not_opened(tool, tmp_path):
    with open(tmp_path / 'heavy.png', 'wb') as file:
        file.truncate(tool['MAX_BYTES'] + 1)
    with pytest.raises(InputError, match='the picture has more than 20 megabytes: save it smaller'):
        tool['check_picture'](str(tmp_path / 'heavy.png'))
    os.truncate(tmp_path / 'heavy.png', tool['MAX_BYTES'])
    with pytest.raises(InputError, match='heavy.png is not a picture'):
        tool['check_picture'](str(tmp_path / 'heavy.png'))


def test_lines_of_sentences_end_at_line_feeds(tool):
    assert tool['split_sentences']('the red\u2028star\r\n\n a box\x85\n') == ['the red\u2028star', 'a box']


def test_uploads_are_deleted_after_an_hour(tool, photo, tmp_path, monkeypatch):
    """Here the hour is a second. Gradio deletes the uploads and its own copies."""
    assert tool['HOUR'] == 3600
    monkeypatch.setitem(tool['build_page'].__globals__, 'HOUR', 1)
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path / 'cache'))
    page = tool['build_page'](None, [[str(photo), 'a star']])
    try:
        address = page.launch(
            server_name='127.0.0.1', share=False, ssr_mode=False, prevent_thread_lock=True, quiet=True
        )[1]
        found = httpx.post(f'{address}gradio_api/upload', files=dict(files=('a.png', photo.read_bytes())))
        handed_in = Path(found.json()[0])
        assert handed_in.read_bytes() == photo.read_bytes()
        end = time.monotonic() + 30
        while handed_in.exists() and time.monotonic() < end:
            time.sleep(0.2)
        assert not handed_in.exists() and photo.exists()
    finally:
        page.close()


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


def test_the_page_loads_nothing_from_other_machines(page, photo, address):
    ask(page, photo, 'the red circle')
    picture_in(page, 'overlay')
    entries = [json.loads(entry['message'])['message'] for entry in page.get_log('performance')]
    asked = [entry['params']['request']['url'] for entry in entries if entry['method'] == 'Network.requestWillBeSent']
    hosts = {urlparse(url).netloc for url in asked if url.startswith(('http', 'ws'))}
    assert hosts == {urlparse(address).netloc} and hosts.pop().startswith('127.0.0.1:')
