"""The web page in headless Chromium, from the upload to the mask; screenshots are kept for inspection.

`make test-web` installs gradio and selenium. Debian has the browser: apt-get install chromium chromium-driver.
"""

import json
import re
import shutil
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlparse

import cv2
import numpy as np
import pytest
import torch
from page_server import SECONDS, served
from processes import ROOT
from pycocotools.coco import COCO
from safetensors.torch import save_file

from dit_sam.apis import ReferringInferencer

DRIVER, BROWSER = shutil.which('chromedriver'), shutil.which('chromium') or shutil.which('chromium-browser')

pytest.importorskip('gradio', reason='gradio is not installed: make test-web installs it')
pytest.importorskip('selenium', reason='selenium is not installed: make test-web installs it')
if not (DRIVER and BROWSER):
    pytest.skip('there is no Chromium: apt-get install chromium chromium-driver', allow_module_level=True)

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402


@pytest.fixture(scope='module')
def address_for_clicks(tmp_path_factory) -> Iterator[str]:
    """The page of a model without text, of random weights, that takes points."""
    folder = tmp_path_factory.mktemp('clicks')
    config = ROOT / 'configs' / 'dit_sam' / 'sam_vit-t_shapes.py'
    torch.manual_seed(0)
    model = ReferringInferencer(str(config), device='cpu').model
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2)
    save_file(model.state_dict(), folder / 'weights.safetensors')
    with served(folder, '--config', config, '--checkpoint', folder / 'weights.safetensors') as address:
        yield address


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


def upload(page: webdriver.Chrome, picture: Path) -> webdriver.remote.webelement.WebElement:
    """Upload a picture; the picture in the page."""
    page.find_element(By.CSS_SELECTOR, 'input[type=file]').send_keys(str(picture))
    return until(page, lambda: page.find_elements(By.CSS_SELECTOR, f'img[src*="{picture.name}"]'))[0]


def ask(page: webdriver.Chrome, picture: Path | None, sentences: str) -> None:
    """Upload a picture, type and press the button."""
    if picture is not None:
        upload(page, picture)
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
    return cv2.imdecode(np.frombuffer(download(page, image.get_property('src')), np.uint8), cv2.IMREAD_COLOR)


def download(page: webdriver.Chrome, address: str) -> bytes:
    """What the browser gets from an address."""
    content = page.execute_async_script(
        'const [address, done] = arguments; fetch(address).then(found => found.blob()).then(blob => {'
        'const reader = new FileReader(); reader.onload = () => done(reader.result); reader.readAsDataURL(blob)})',
        address,
    )
    return b64decode(content.split(',')[1])


def refusal_on(page: webdriver.Chrome) -> str:
    return until(page, lambda: page.find_element(By.CSS_SELECTOR, '.toast-body').text)


def screenshot(page: webdriver.Chrome, name: str) -> None:
    folder = ROOT / 'work_dirs' / 'test_web'
    folder.mkdir(parents=True, exist_ok=True)
    page.save_screenshot(str(folder / f'{name}.png'))


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


def test_masks_are_taken_away_as_png_and_coco(page, photo, tmp_path):
    ask(page, photo, 'the red circle\nthe blue square')
    links = until(page, lambda: page.find_elements(By.CSS_SELECTOR, '#files a[href]'))
    files = {link.get_property('href').rpartition('/')[2]: link.get_property('href') for link in links}
    assert list(files) == ['photo_the-red-circle_1.png', 'photo_the-blue-square_1.png', 'photo_coco_1.json']
    contents = {name: download(page, address) for name, address in files.items()}
    (tmp_path / 'coco.json').write_bytes(contents.pop('photo_coco_1.json'))
    coco = COCO(str(tmp_path / 'coco.json'))
    assert [image['file_name'] for image in coco.loadImgs(coco.getImgIds())] == ['photo.png']
    for annotation, png in zip(coco.loadAnns(coco.getAnnIds()), contents.values(), strict=True):
        mask = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (120, 200) and set(np.unique(mask)) == {0, 255}
        np.testing.assert_array_equal(coco.annToMask(annotation) * 255, mask)


def test_clicks_are_points_inside_and_outside(browser, address_for_clicks, photo):
    browser.get(address_for_clicks)
    until(browser, lambda: browser.find_elements(By.ID, 'segment'))
    assert not browser.find_elements(By.ID, 'sentences')
    picture = upload(browser, photo)
    browser.find_element(By.ID, 'segment').click()
    assert 'no point yet: click on the object in the picture' in refusal_on(browser)

    def click(x: int, y: int) -> None:
        """Click on a pixel of the picture, whose 200 x 120 pixels are in the middle of its frame."""
        ActionChains(browser).move_to_element_with_offset(picture, x - 100, y - 60).click().perform()

    def points() -> list[tuple]:
        found = re.findall(r'(\d+), (\d+): (inside|outside)', browser.find_element(By.ID, 'points').text)
        return [(int(x), int(y), label) for x, y, label in found]

    click(50, 60)
    until(browser, lambda: len(points()) == 1)
    first = picture_in(browser, 'overlay')
    browser.find_elements(By.CSS_SELECTOR, '#label input')[1].click()
    click(150, 40)
    until(browser, lambda: len(points()) == 2)
    assert all(
        abs(x - near_x) <= 1 and abs(y - near_y) <= 1 and label == wanted
        for (x, y, label), (near_x, near_y, wanted) in zip(points(), [(50, 60, 'inside'), (150, 40, 'outside')])
    )
    until(browser, lambda: not np.array_equal(picture_in(browser, 'overlay'), first))
    second = picture_in(browser, 'overlay')
    # Drawn 3 times as large: a disc in the color of the mask, and a ring with a white center.
    assert np.abs(second[181, 151].astype(int) - (160, 64, 255)).max() < 20
    assert second[121, 451].min() > 240 and first[121, 451].min() < 240
    screenshot(browser, 'clicks')
    browser.find_element(By.ID, 'remove').click()
    until(browser, lambda: not points())


def test_an_answer_belongs_to_the_picture_and_the_points_that_are_shown(browser, address_for_clicks, photo, tmp_path):
    """Clicks that come during an answer are asked after it, and another picture clears the answer."""
    browser.get(address_for_clicks)
    until(browser, lambda: browser.find_elements(By.ID, 'segment'))
    # So large that an answer takes longer than a few clicks.
    cv2.imwrite(str(tmp_path / 'large.png'), cv2.resize(cv2.imread(str(photo)), (4000, 2400)))
    picture = upload(browser, tmp_path / 'large.png')
    for shift in range(4):
        ActionChains(browser).move_to_element_with_offset(picture, 10 * shift, 0).click().perform()
    until(browser, lambda: len(browser.find_element(By.ID, 'points').text.splitlines()) == 4)

    def discs() -> int:
        """Points in the picture of the answer: white rings around discs in the color of the mask."""
        drawn = picture_in(browser, 'overlay')
        inside = np.abs(drawn.astype(int) - (160, 64, 255)).max(-1) < 30
        row = drawn.shape[1] * 2400 // 4000 // 2
        return np.count_nonzero(np.diff(inside[row].astype(int)) == 1)

    until(browser, lambda: discs() >= 4)
    browser.find_element(By.CSS_SELECTOR, '[aria-label="Remove Image"], [aria-label="Clear"]').click()
    until(browser, lambda: not browser.find_elements(By.CSS_SELECTOR, '#overlay img'))
    assert not browser.find_elements(By.CSS_SELECTOR, '#files a[href]')


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


def test_the_page_loads_nothing_from_other_machines(page, photo, address):
    # The log of other tests.
    page.get_log('performance')
    page.refresh()
    until(page, lambda: page.find_elements(By.ID, 'segment'))
    ask(page, photo, 'the red circle')
    picture_in(page, 'overlay')
    entries = [json.loads(entry['message'])['message'] for entry in page.get_log('performance')]
    asked = [entry['params']['request']['url'] for entry in entries if entry['method'] == 'Network.requestWillBeSent']
    hosts = {urlparse(url).netloc for url in asked if url.startswith(('http', 'ws'))}
    assert hosts == {urlparse(address).netloc} and hosts.pop().startswith('127.0.0.1:')
