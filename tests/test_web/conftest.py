"""A running page, and a picture to ask about."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from page_server import served


@pytest.fixture(scope='module')
def address(tmp_path_factory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp('web')) as address:
        yield address


@pytest.fixture
def photo(tmp_path) -> Path:
    """A red circle left of a blue square."""
    image = np.full((120, 200, 3), 235, np.uint8)
    cv2.circle(image, (50, 60), 30, (40, 40, 220), -1)
    cv2.rectangle(image, (120, 35), (170, 85), (220, 60, 40), -1)
    cv2.imwrite(str(tmp_path / 'photo.png'), image)
    return tmp_path / 'photo.png'
