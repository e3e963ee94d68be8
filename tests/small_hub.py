"""A server that answers as Hugging Face's hub does, for models: download, upload, revisions, access, failures."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep
from urllib.parse import unquote

TOKEN = 'hf_of_the_tests'


@dataclass
class Repository:
    """Files by commit, and commits by the names of branches and tags."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def commit(self, files: dict[str, bytes], branch: str = 'main') -> str:
        """Add files to a branch and return the commit's id."""
        files = {**self.commits.get(self.refs.get(branch, ''), {}), **files}
        oid = hashlib.sha1(f'{len(self.commits)}{sorted(files)}'.encode()).hexdigest()
        self.commits[oid] = files
        self.refs[branch] = oid
        return oid


class SmallHub(ThreadingHTTPServer):
    """See above.

    Attributes:
        repositories: By `user/name`.
        failure: What downloads meet: '', a status such as '500', 'hang', 'short' (a body that ends early), or 'wrong'
            (a body of another size than was announced).
        requests: Method and path of every request.
        stored: Uploaded large files, by their sha256.
    """

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.failure = ''
        self.requests: list[str] = []
        self.stored: dict[str, bytes] = {}
        self.stopped = threading.Event()

    @property
    def address(self) -> str:
        return f'http://127.0.0.1:{self.server_port}'


@contextmanager
def running_hub() -> Iterator[SmallHub]:
    hub = SmallHub()
    threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        hub.stopped.set()
        hub.shutdown()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    server: SmallHub

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: object = None, **headers: object) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {'Content-Length': len(content), **headers}.items():
            self.send_header(name.replace('_', '-'), str(value))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.requests.append(f'{self.command} {self.path}')
        path = unquote(self.path)
        found = re.fullmatch(r'/([^/]+/[^/]+)/resolve/(refs/[^/]+/[^/]+|[^/]+)/(.+)', self.path)
        if found:
            return self.resolve(found[1], unquote(found[2]), found[3])
        repository = self.server.repositories.get(path.removeprefix('/api/models/'))
        if repository is None:
            return self.answer(404, {}, X_Error_Code='RepoNotFound')
        self.answer(200, dict(id=path.removeprefix('/api/models/'), sha=repository.refs.get('main'), siblings=[]))

    def resolve(self, name: str, revision: str, file: str) -> None:
        failure = self.server.failure
        if failure == 'hang':
            self.server.stopped.wait(60)
            return
        if failure.isdigit():
            return self.answer(int(failure))
        repository = self.server.repositories.get(name)
        authorized = self.headers.get('Authorization') == f'Bearer {TOKEN}'
        if repository is None or (repository.private and not authorized):
            return self.answer(401, {}, X_Error_Code='RepoNotFound')
        if repository.gated and not authorized:
            return self.answer(401, {}, X_Error_Code='GatedRepo')
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            return self.answer(404, {}, X_Error_Code='RevisionNotFound')
        content = repository.commits[commit].get(file)
        if content is None:
            return self.answer(404, {}, X_Error_Code='EntryNotFound', X_Repo_Commit=commit)
        headers = dict(ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=commit, Accept_Ranges='bytes')
        if failure == 'wrong':
            headers['X_Linked_Size'] = len(content) + 1
        if failure == 'short' and self.command == 'GET':
            self.send_response(200)
            self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        start = int((re.match(r'bytes=(\d+)-', self.headers.get('Range', '')) or [0, 0])[1])
        if failure == 'slow' and self.command == 'GET':
            return self.trickle(content)
        if start:
            headers['Content_Range'] = f'bytes {start}-{len(content) - 1}/{len(content)}'
        self.answer(206 if start else 200, content[start:], **headers)

    def trickle(self, content: bytes) -> None:
        """Half of a body, then nothing until the hub stops."""
        self.send_response(200)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        while not self.server.stopped.is_set():
            sleep(0.05)
        self.close_connection = True

    def do_PUT(self) -> None:
        self.server.requests.append(f'{self.command} {self.path}')
        content = self.rfile.read(int(self.headers['Content-Length']))
        oid = hashlib.sha256(content).hexdigest()
        if self.path != f'/large/{oid}':
            return self.answer(400)
        self.server.stored[oid] = content
        self.answer(200)

    def do_POST(self) -> None:
        self.server.requests.append(f'{self.command} {self.path}')
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        if self.headers.get('Authorization') != f'Bearer {TOKEN}':
            return self.answer(401, dict(error='Invalid username or password.'))
        if self.server.failure.isdigit():
            return self.answer(int(self.server.failure), dict(error='no'))
        path = self.path.split('?')[0]
        if path == '/api/validate-yaml':
            return self.answer(200, dict(errors=[], warnings=[]))
        if path == '/api/repos/create':
            wanted = json.loads(body)
            name = f'{wanted["organization"]}/{wanted["name"]}'
            if name in self.server.repositories:
                return self.answer(409, dict(url=f'{self.server.address}/{name}'))
            private = wanted.get('private', False) or wanted.get('visibility') == 'private'
            self.server.repositories[name] = Repository(private=private)
            return self.answer(200, dict(url=f'{self.server.address}/{name}'))
        found = re.fullmatch(r'/api/models/([^/]+/[^/]+)/(preupload|commit)/([^/]+)', path)
        if found and found[1] in self.server.repositories:
            act = self.preupload if found[2] == 'preupload' else self.commit
            return act(self.server.repositories[found[1]], body, found[1], found[3])
        if path.endswith('.git/info/lfs/objects/batch'):
            objects = [
                dict(one, actions=dict(upload=dict(href=f'{self.server.address}/large/{one["oid"]}')))
                for one in json.loads(body)['objects']
            ]
            return self.answer(200, dict(transfer='basic', objects=objects))
        self.answer(404, {}, X_Error_Code='RepoNotFound')

    def preupload(self, repository: Repository, body: bytes, name: str, revision: str) -> None:
        files = [
            dict(
                path=one['path'],
                uploadMode='lfs' if one['path'].endswith('.safetensors') else 'regular',
                shouldIgnore=False,
            )
            for one in json.loads(body)['files']
        ]
        self.answer(200, dict(files=files))

    def commit(self, repository: Repository, body: bytes, name: str, revision: str) -> None:
        files = {}
        for line in map(json.loads, body.splitlines()):
            value = line['value']
            if line['key'] == 'file':
                files[value['path']] = base64.b64decode(value['content'])
            elif line['key'] == 'lfsFile':
                files[value['path']] = self.server.stored[value['oid']]
        oid = repository.commit(files, revision)
        self.answer(200, dict(success=True, commitOid=oid, commitUrl=f'{self.server.address}/{name}/commit/{oid}'))
