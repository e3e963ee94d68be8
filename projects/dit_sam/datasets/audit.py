"""Which pictures of evaluation sets a model was trained on, by id and by file name.

RefCOCO, RefCOCO+, RefCOCOg, RefCLEF and gRefCOCO split pictures in different ways, so that joint training may include
test pictures of another set. No image is opened, and nothing in a pickle is run.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ..errors import InputError
from .held_out import Id, Picture, list_files, read_splits
from .images import base_name, coco_number, coco_numbers
from .json_lines import naming_line, numbered_lines, parse_line, record_sentences
from .reference_files import load_json

# A file or folder, and the splits that count; without any, those that the side of the audit stands for.
Source = tuple[str, Sequence[str]]
ALL = 'all'
FORMS = (
    'references (refs(*).p, grefs(*).json), prepared files (.safetensors), lines of JSON (.jsonl), COCO instances '
    '(.json), ids or file names, one a line (.txt), and folders of references and prepared files'
)


@dataclass
class ImageSet:
    """The pictures of a split of a file; the split of a file without splits is ''."""

    source: str
    split: str
    pictures: list[Picture]

    @property
    def name(self) -> str:
        return f'{self.source} ({self.split})' if self.split else self.source

    @property
    def unknown(self) -> list[Picture]:
        """The pictures without a number in id and file name: of COCO or not, nothing tells."""
        return [picture for picture in self.pictures if not coco_numbers(picture.image_id, picture.file_name)]


@dataclass
class Leak:
    """A picture that was trained on, whether its id says so ('id') or only its 'file name', and where."""

    picture: Picture
    by: str
    train: list[str]


@dataclass
class SetReport:
    """What is known of one evaluation set.

    Attributes:
        leaks: Pictures that were trained on.
        other_names: Pictures with the id of a training picture, whose file name is another: not counted as leaks,
            because the ids may be of another numbering.
        unknown: Pictures that cannot be compared, as neither their id nor their file name has a number.
    """

    images: ImageSet
    leaks: list[Leak] = field(default_factory=list)
    other_names: list[Leak] = field(default_factory=list)
    unknown: list[Picture] = field(default_factory=list)

    def count(self, by: str) -> int:
        return sum(leak.by == by for leak in self.leaks)

    @property
    def common_names(self) -> list[Leak]:
        """The leaks for which only a name speaks that is not COCO's: different pictures may be called 0001.jpg."""
        return [leak for leak in self.leaks if leak.by == 'file name' and not coco_name(leak.picture.file_name)]

    def as_dict(self) -> dict:
        """All of it, for JSON."""
        leaked, pictures = [leak.picture for leak in self.leaks], self.images.pictures
        return dict(
            source=self.images.source,
            split=self.images.split,
            pictures=len(pictures),
            trained_on=len(leaked),
            by_id=self.count('id'),
            by_file_name=self.count('file name'),
            same_id_other_name=len(self.other_names),
            unknown=len(self.unknown),
            references=sum(picture.references for picture in pictures),
            references_affected=sum(picture.references for picture in leaked),
            sentences=sum(picture.sentences for picture in pictures),
            sentences_affected=sum(picture.sentences for picture in leaked),
            leaked_pictures=[dict(_named(leak.picture), by=leak.by, train=leak.train) for leak in self.leaks],
            same_id_other_name_pictures=[dict(_named(leak.picture), train=leak.train) for leak in self.other_names],
            unknown_pictures=list(map(_named, self.unknown)),
        )


def _named(picture: Picture) -> dict:
    return dict(image_id=picture.image_id, file_name=picture.file_name)


def audit(train: Sequence[Source], test: Sequence[Source]) -> tuple[list[ImageSet], list[SetReport]]:
    """The training sets, and a report on each evaluation set.

    Two pictures are the same if their file names agree: in COCO's number or else without folder and suffix. If one of
    the two file names is unknown, they are the same if their ids agree, or the id of one and the file name of the
    other, in their number if they have one.

    Args:
        train: What the model was trained on; without splits the split train of a file that has splits.
        test: Evaluation sets; without splits all others.

    Raises:
        FileNotFoundError: A source does not exist.
        InputError: A source is damaged, of another kind, empty, or has no such split.
    """
    # One file may be on both sides.
    read = lru_cache(maxsize=None)(_read)
    trained = list(_select(train, '--train', lambda split: split in ('', 'train'), read))
    tested = list(_select(test, '--test', lambda split: split != 'train', read))
    index = _Index(trained)
    return trained, [_compare(images, index) for images in tested]


def _select(
    sources: Sequence[Source], option: str, default: Callable[[str], bool], read: Callable[[str], dict]
) -> Iterator[ImageSet]:
    """The splits of sources that were asked for, or else those that pass `default`."""
    for path, wanted in sources:
        found = [(file, split, pictures) for file in list_files(path, option) for split, pictures in read(file).items()]
        names = dict.fromkeys(split for _, split, _ in found)
        missing = [split for split in wanted if split not in names and split != ALL]
        if not wanted and not any(map(default, names)):
            missing = ['train' if option == '--train' else 'besides train']
        if missing:
            has = ' and '.join(filter(None, names))
            remedy = (
                f'it has {has}; FILE:SPLIT names others than usual' if has else 'as it has no splits: name it alone'
            )
            raise InputError(f'{option}: {path} has no split {missing[0]}, {remedy}')
        for file, split, pictures in sorted(found, key=lambda each: (each[0], each[1] != 'val', each[1])):
            if split in wanted or ALL in wanted or not wanted and default(split):
                yield ImageSet(file, split, pictures)


def _read(file: str) -> dict[str, list[Picture]]:
    """The pictures of each split of any file."""
    suffix = os.path.splitext(file)[1].lower()
    if suffix == '.jsonl':
        splits = {'': _pictures_of_lines(file)}
    elif suffix in ('.txt', ''):
        splits = {'': _pictures_of_text(file)}
    elif suffix == '.json' and _is_object(file):
        splits = {'': _pictures_of_instances(file)}
    elif suffix in ('.p', '.pkl', '.pickle', '.json', '.safetensors'):
        splits = read_splits(file)
    else:
        raise InputError(f'{file} is of no kind that is known: there are {FORMS}')
    if not any(splits.values()):
        raise InputError(f'{file} names no picture: name another file')
    return splits


def _pictures_of_lines(file: str) -> list[Picture]:
    """Of lines of JSON: only the image and, where it is there, its id are needed."""
    pictures: dict[tuple, Picture] = {}
    for number, line in numbered_lines(file):
        with naming_line(file, number):
            record, problems = parse_line(line)
            if not isinstance(record, dict):
                raise ValueError(problems[0])
            name, image_id = record.get('image'), record.get('image_id', '')
            if not isinstance(name, str) or not name.strip() or type(image_id) not in (int, str):
                raise ValueError(next(text for text in problems if '"image"' in text or '"image_id"' in text))
            sentences = record_sentences(record) if {'sentence', 'sentences'} & record.keys() else []
            known = pictures.get((image_id, name)) or Picture(image_id, name)
            pictures[image_id, name] = known._replace(
                references=known.references + 1,
                sentences=known.sentences + (len(sentences) if isinstance(sentences, list) else 0),
            )
    return list(pictures.values())


def _pictures_of_text(file: str) -> list[Picture]:
    """Of a line each: what has a suffix or a folder is a file name, anything else an id."""
    try:
        with open(file, encoding='utf-8-sig') as text:
            lines = dict.fromkeys(line.strip() for line in text if line.strip())
    except UnicodeDecodeError as error:
        raise InputError(f'{file} is not text with one image id or file name a line: {error}') from error
    return [
        Picture(file_name=line) if os.path.splitext(line)[1] or base_name(line) != line else Picture(line)
        for line in lines
    ]


def _is_object(file: str) -> bool:
    """Whether a JSON file holds an object, as COCO's do, not a list, as gRefCOCO's."""
    with open(file, 'rb') as content:
        return content.read(64).lstrip().startswith(b'{')


def _pictures_of_instances(file: str) -> list[Picture]:
    """All images of COCO instances."""
    try:
        # Without the annotations, nearly all of the file: COCO's own would take gigabytes.
        images = load_json(file, _without_annotations)['images']
        pictures = [Picture(image['id'], image.get('file_name', '')) for image in images]
    except KeyError as error:
        raise InputError(f'{file} is not in the format of COCO instances: the key {error} is missing') from error
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f'{file} is not in the format of COCO instances: {error}') from error
    for picture in pictures:
        if type(picture.image_id) not in (int, str) or not isinstance(picture.file_name, str):
            raise InputError(
                f'{file} is not in the format of COCO instances: an image has the id {picture.image_id!r} and the '
                f'file_name {picture.file_name!r}'
            )
    return pictures


def _without_annotations(record: dict) -> dict | None:
    return None if 'image_id' in record and 'file_name' not in record else record


class _Index:
    """The pictures of the training sets: the names of these sets by what the pictures are known by.

    `names` is by file name, `keys` by whether there is a file name and by number or id. `ids` has each id with the file
    name beside it, '' if it is unknown, and with None.
    """

    def __init__(self, sets: Sequence[ImageSet]) -> None:
        self.names: dict[str, dict[str, None]] = {}
        self.keys: dict[tuple[bool, Id], dict[str, None]] = {}
        self.ids: set[tuple[str | None, Id]] = set()
        for images in sets:
            for picture in images.pictures:
                name, image_id = name_key(picture), id_key(picture)
                if name:
                    self.names.setdefault(name, {})[images.name] = None
                for key in _keys(picture):
                    self.keys.setdefault((bool(name), key), {})[images.name] = None
                self.ids.update([(name, image_id), (None, image_id)])

    def find(self, picture: Picture, named: bool) -> dict[str, None]:
        """The sets that have the number or id of a picture, with a file name or without."""
        return {name: None for key in _keys(picture) for name in self.keys.get((named, key), ())}


def _compare(images: ImageSet, index: _Index) -> SetReport:
    report = SetReport(images)
    for picture in images.pictures:
        name, image_id = name_key(picture), id_key(picture)
        named, nameless = index.find(picture, True), index.find(picture, False)
        # Where both file names are known, they decide; otherwise ids do.
        train = {**index.names.get(name, {}), **nameless} if name else {**named, **nameless}
        if train:
            of_id = image_id != '' and not index.ids.isdisjoint((beside, image_id) for beside in (name or None, ''))
            report.leaks.append(Leak(picture, 'id' if of_id else 'file name', list(train)))
        elif named:
            report.other_names.append(Leak(picture, 'id', list(named)))
        elif not coco_numbers(picture.image_id, picture.file_name):
            report.unknown.append(picture)
    return report


def name_key(picture: Picture) -> str:
    """What the file names of one picture have in common; '' without a name.

    It is COCO's twelve digits, and else the name without folder and suffix. A name that is only a number may be of
    another numbering, such as Visual Genome's or RefCLEF's.
    """
    return coco_name(picture.file_name) or os.path.splitext(base_name(picture.file_name))[0]


def coco_name(file_name: str) -> str:
    """COCO's twelve digits if the name has them, or a number after COCO's prefix; else ''."""
    number, name = coco_number(file_name), base_name(file_name)
    if number is None and name.startswith('COCO_'):
        number = next(iter(coco_numbers('', name)), None)
    return '' if number is None else f'{number:012d}'


def id_key(picture: Picture) -> Id:
    """The id, as a number if it has one; '' if there is none, or it is only the file name."""
    if picture.image_id == picture.file_name:
        return ''
    return next(iter(coco_numbers(picture.image_id, '')), picture.image_id)


def _keys(picture: Picture) -> set[Id]:
    """What a picture is known by if no file name decides."""
    numbers: set[Id] = {*coco_numbers(picture.image_id, picture.file_name)}
    return numbers or {key for key in (id_key(picture), name_key(picture)) if key}
