"""Addresses: the hub's from its cache, the web's from a server of the test's own, and no network beyond."""

import hashlib
import http.server
import sys
import threading

import numpy as np
import pytest

from tests.pretrained import published
from vidcls import pretrained
from vidcls.errors import UserError
from vidcls.pretrained import fetching

ARRAYS = {'a.weight': np.arange(6, dtype=np.float32).reshape(2, 3), 'b': np.array([1.5, -2.0])}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'vidcls' / 'weights'


@pytest.fixture
def content(tmp_path):
    path = tmp_path / 'published.safetensors'
    pretrained.save(path, ARRAYS)
    return path.read_bytes()


@pytest.fixture
def server(content, monkeypatch):
    """Its address, and the paths that were asked for; it speaks http, which is let through for it."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if 'moved' in self.path:
                self.send_response(302)
                self.send_header('Location', ('ftp://elsewhere' if 'far' in self.path else '') + '/w.safetensors')
                self.end_headers()
            elif 'absent' in self.path:
                self.send_error(404, 'Not Found')
            else:
                self.send_response(200)
                self.send_header('Content-Length', str(len(content)))
                self.end_headers()
                self.wfile.write(content[:50] if 'broken' in self.path else content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setattr(fetching, 'WEB', 'http://')
        monkeypatch.setattr(fetching, 'PATIENCE', 5)
        yield f'http://127.0.0.1:{running.server_port}', asked
        running.shutdown()


@pytest.mark.parametrize('path', ['/a/w.safetensors', '/moved.safetensors', '/w.safetensors?download=true'])
def test_a_webs_file_is_fetched_once(server, cache, content, path):
    address, asked = server
    published.assert_same(pretrained.read(address + path), ARRAYS)
    first = len(asked)
    published.assert_same(pretrained.read(address + path), ARRAYS)
    assert pretrained.sha256(address + path) == hashlib.sha256(content).hexdigest()
    assert len(asked) == first == (2 if 'moved' in path else 1)
    (stored,) = cache.iterdir()
    assert stored.read_bytes() == content and stored.name.endswith('safetensors')


def test_files_of_one_name_are_kept_apart(server, cache):
    address, _ = server
    assert fetching.locate(f'{address}/a/w.safetensors') != fetching.locate(f'{address}/b/w.safetensors')
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    'path, message',
    [
        ('/absent.safetensors', 'the server answers 404 Not Found'),
        ('/broken.safetensors', r'could not be fetched \(it broke off after 50 of \d+ bytes\)'),
        ('/far/moved.safetensors', 'it leads on to ftp://elsewhere'),
    ],
)
def test_what_does_not_come_whole_leaves_nothing(server, cache, path, message):
    address, _ = server
    with pytest.raises(ValueError, match=f'{address}{path}: .*{message}'):
        pretrained.read(address + path)
    assert not list(cache.iterdir())


def test_a_file_without_end_is_not_kept(server, cache, monkeypatch):
    monkeypatch.setattr(fetching, 'MOST_BYTES', 60)
    with pytest.raises(UserError, match='could not be fetched .it has more than 60 bytes'):
        pretrained.read(f'{server[0]}/w.safetensors')
    assert not list(cache.iterdir())


def test_no_network(monkeypatch, cache):
    monkeypatch.setattr(fetching, 'PATIENCE', 5)
    with pytest.raises(ValueError, match=r'could not be fetched \(.*refused\); a file .* by its path'):
        pretrained.read('https://127.0.0.1:1/w.safetensors')


def test_a_cache_that_was_laid_out_needs_no_network(cache, content):
    address = 'https://example.invalid/models/resnet50-0676ba61.safetensors'
    name = f'{hashlib.sha256(address.encode()).hexdigest()[:16]}-resnet50-0676ba61.safetensors'
    cache.mkdir(parents=True)
    (cache / '.partial-x').mkdir()
    (cache / '.partial-x' / 'file').write_bytes(content[:50])
    (cache / name).write_bytes(content)
    published.assert_same(pretrained.read(address), ARRAYS)


@pytest.mark.parametrize(
    'address, message',
    [
        ('http://example.com/w.safetensors', 'begins with https:// or hf://'),
        ('s3://bucket/w.safetensors', 'begins with https:// or hf://'),
        ('https://example.com/download?id=3', "unknown ending ''; known: .safetensors"),
        ('hf://org', 'must be hf://org/name'),
    ],
)
def test_a_wrong_address_is_named_before_anything_is_fetched(cache, address, message):
    with pytest.raises(ValueError, match=message):
        pretrained.read(address)
    assert not cache.exists()


# ---- The hub


def test_a_hubs_file_comes_from_its_cache(tmp_path, monkeypatch):
    constants = pytest.importorskip('huggingface_hub.constants')
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    repository = tmp_path / 'models--org--name'
    commit = '0' * 40
    (repository / 'refs').mkdir(parents=True)
    (repository / 'refs' / 'main').write_text(commit)
    (repository / 'snapshots' / commit / 'sub').mkdir(parents=True)
    pretrained.save(repository / 'snapshots' / commit / 'model.safetensors', ARRAYS)
    np.savez(repository / 'snapshots' / commit / 'sub' / 'w.npz', **ARRAYS)
    for address in ('hf://org/name', 'hf://org/name/sub/w.npz'):
        published.assert_same(pretrained.read(address), ARRAYS)
    assert len(pretrained.sha256('hf://org/name')) == 64
    with pytest.raises(ValueError, match='hf://org/other: not found'):
        pretrained.read('hf://org/other')
    with pytest.raises(ValueError, match='hf://org/na--me: not found'):
        pretrained.read('hf://org/na--me')


def test_without_huggingface_hub_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ValueError, match='needs huggingface_hub'):
        pretrained.read('hf://org/name')
