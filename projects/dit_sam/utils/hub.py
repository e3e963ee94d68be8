"""Files on Hugging Face's hub, or on a server that answers like it: `hf://user/name/file`.

huggingface_hub does the work, with its cache and settings: HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE. It is
imported where it is used, because that takes time.
"""

import re
from pathlib import Path
from urllib.parse import unquote

from ..errors import InputError, first_line
from .checkpoints import CheckpointError

_REPOSITORY = r'[\w.-]+/[\w.-]+'
# A revision with a slash is written with %2F, except for the hub's own, such as refs/pr/1.
_ADDRESS = re.compile(rf'hf://({_REPOSITORY})(?:@(refs/[^/]+/[^/]+|[^/]+))?/(.+)')


def split_repository(name: str) -> tuple[str, str | None] | None:
    """Repository and revision of `user/name` or `user/name@revision`; None for any other text."""
    found = re.fullmatch(rf'({_REPOSITORY})(?:@(.+))?', name)
    return None if found is None else (found[1], found[2])


def check_repository(name: str) -> None:
    """Raise `InputError` if a text is not `user/name`."""
    if split_repository(name) != (name, None):
        raise InputError(f'{name!r} is not a repository of the hub: give user/name, without a revision')


def split_address(address: str) -> tuple[str, str, str | None]:
    """Repository, file and revision of `hf://user/name/file` or `hf://user/name@revision/file`.

    Raises:
        CheckpointError: It is neither.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise CheckpointError(
            f'checkpoint {address}: write hf://user/name/file, or hf://user/name@revision/file for one revision'
        )
    return found[1], found[3], unquote(found[2]) if found[2] else None


def hub_file(repository: str, file: str, revision: str | None = None, cached: bool = False) -> str:
    """The path of a file of a model repository in the local cache, after it was downloaded if needed.

    Args:
        repository: `user/name`.
        file: Its path in the repository.
        revision: Branch, tag or commit; None for the main branch. The newest state of a branch is used, and the cached
            one where the hub cannot be reached.
        cached: Whether only the cache is asked, into which another rank of the machine has fetched the file.

    Raises:
        FileNotFoundError: There is no such repository, revision or file.
        CheckpointError: The hub cannot be reached and the file is not cached, or access is denied.
    """
    from huggingface_hub import hf_hub_download

    try:
        return hf_hub_download(repository, file, revision=revision, library_name='dit_sam', local_files_only=cached)
    except Exception as error:  # of the network, the hub's answers and the disk, by classes that differ by version
        if cached:
            where = f'{repository}@{revision}' if revision else repository
            raise CheckpointError(f'{file} of {where} is not in the cache: another rank could not fetch it') from error
        raise _explained(error, repository, file, revision) from error


def upload_folder(folder: str | Path, repository: str, private: bool = False) -> str:
    """Upload the files of a folder to a model repository in one commit, and return its id.

    Args:
        folder: The folder.
        repository: `user/name`, which is created if it is missing. Its other files stay.
        private: Whether a new repository is private.

    Raises:
        FileNotFoundError: There is no such user, or access to the repository is denied.
        CheckpointError: The hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name='dit_sam')
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        return api.upload_folder(repo_id=repository, folder_path=folder, commit_message='Upload the model').oid
    except Exception as error:  # as above
        raise _explained(error, repository) from error


def _explained(error: Exception, repository: str, file: str = '', revision: str | None = None) -> Exception:
    """The error of huggingface_hub in one line that says what to do."""
    from huggingface_hub import constants, errors

    hub, where = constants.ENDPOINT, f'{repository}@{revision}' if revision else repository
    log_in = 'log in with `hf auth login`, or set HF_TOKEN'
    if isinstance(error, errors.GatedRepoError):
        return CheckpointError(f'{repository} is gated: accept its terms at {hub}/{repository}, then {log_in}')
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(
            f'{hub} has no model {repository}, or it is private: check the name; for a private one {log_in}'
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(f'{repository} has no revision {revision!r}: name a branch, a tag or a commit')
    missing = isinstance(error, errors.EntryNotFoundError)
    if isinstance(error, errors.LocalEntryNotFoundError):
        if constants.HF_HUB_OFFLINE:
            return CheckpointError(
                f'{file} of {where} is not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set: unset it, '
                'or download the file on a machine with a network'
            )
        # The answer of the hub, or the failure to reach it.
        error, missing = getattr(error, '__cause__', None) or error, False
    if missing:
        return FileNotFoundError(f'{where} has no file {file}: see {hub}/{repository}/tree/{revision or "main"}')
    what = f'{file} of {where} could not be downloaded' if file else f'{repository} could not be written'
    status = getattr(getattr(error, 'response', None), 'status_code', None)
    if status in (401, 403):
        return CheckpointError(f'{what}: {hub} denies access ({status}): {log_in}; the token needs the rights for it')
    reason = f'{hub} answered with status {status}' if status else f'{first_line(error)[:200]}, from {hub}'
    return CheckpointError(f'{what}: {reason}; check the network, or try again later')
