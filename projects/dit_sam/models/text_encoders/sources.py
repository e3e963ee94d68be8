"""Error messages for text models and tokenizers that are not found."""

from pathlib import Path


def why_nowhere(source: str, wanted: str) -> str:
    """Why nothing was found at a folder or hub name, and the remedy, for the end of a message.

    Args:
        source: The name.
        wanted: The files that a folder must hold.
    """
    if Path(source).is_dir():
        return f'the folder lacks {wanted}; copy it there from the source of the other files'
    if source.startswith(('/', '.', '~')):
        return 'there is no such folder; check the path'
    return (
        'there is no such folder, and no hub answers to that name. On a machine with a network: '
        f'`hf download {source} --local-dir {source}`, then copy that folder here'
    )
