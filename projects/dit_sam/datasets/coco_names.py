"""The numbers of COCO's images, as ids and in names of files."""

import re

# COCO_train2014_000000581857.jpg, 000000581857.png, COCO_train2014_000000581857_7.JPG
_PADDED = re.compile(r'(?<!\d)(0{5}\d{7})(?!\d)', re.ASCII)
# 581857, 581857.jpg, COCO_train2014_581857.jpg
_BARE = re.compile(r'(?:COCO_[a-z]+\d{4}_)?(\d+)(?:\.\w+)?', re.ASCII)


def coco_number(name: str) -> int | None:
    """The number that a file name writes as COCO does, in twelve digits; None where there is none."""
    found = _PADDED.search(_basename(name))
    return int(found.group(1)) if found else None


def coco_numbers(image_id: int | str, name: str) -> set[int]:
    """The numbers that an image may have in COCO: that of its file name and that of its id, which may be a name too."""
    of_id, of_name = str(image_id), _bare_number(name)
    # A file name of more digits than COCO's have is a date or the like.
    of_name = None if of_name is not None and of_name >= 10**7 else of_name
    return {coco_number(of_id), _bare_number(of_id), coco_number(name), of_name} - {None}


def _bare_number(name: str) -> int | None:
    """The number that a file name is, but for COCO's words before it and the suffix; None where it is none."""
    found = _BARE.fullmatch(_basename(name))
    return int(found.group(1)) if found else None


def _basename(name: str) -> str:
    return re.split(r'[/\\]', name)[-1]
