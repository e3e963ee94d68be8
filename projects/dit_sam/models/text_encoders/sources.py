"""Names under which text models and tokenizers are looked for."""

from pathlib import Path


def why_nowhere(source: str, wanted: str) -> str:
    """Why there is nothing at a folder or hub name, and what to do, for the end of a message.

    Args:
        source: The name.
        wanted: What a folder must hold.
    """
    if Path(source).is_dir():
        return f'the folder lacks {wanted}; copy it there from where the other files come from'
    if source.startswith(('/', '.', '~')):
        return 'there is no such folder; check the path'
    return (
        'it is no folder here, and no hub answers to that name. On a machine with a network: '
        f'`hf download {source} --local-dir {source}`, then copy that folder here'
    )
