"""A pickle that does harm when it is loaded unsafely."""

from pathlib import Path


class Hostile:
    """Writes a file as soon as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), 'w')
