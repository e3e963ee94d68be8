"""The numbers of COCO's images, as ids and in names of files."""
import re
from typing import Optional, Set, Union

# COCO_train2014_000000581857.jpg, 000000581857.png, COCO_train2014_000000581857_7.JPG
_PADDED = re.compile(r'(?<!\d)(0{5}\d{7})(?!\d)', re.ASCII)
_BARE = re.compile(r'(\d+)(?:\.\w+)?', re.ASCII)


def coco_number(name: str) -> Optional[int]:
    """The number that a file name writes as COCO does, in twelve digits; None where there is none."""
    found = _PADDED.search(_basename(name))
    return int(found.group(1)) if found else None


def coco_numbers(image_id: Union[int, str], name: str) -> Set[int]:
    """The numbers that an image may have in COCO: that of its file name and that of its id.

    An id may be a name too, of digits alone, as 581857.jpg.
    """
    numbers = {coco_number(name)} - {None}
    bare = _BARE.fullmatch(_basename(str(image_id)))
    return numbers | {int(bare.group(1))} if bare else numbers


def _basename(name: str) -> str:
    return re.split(r'[/\\]', name)[-1]
