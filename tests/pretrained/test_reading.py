"""Files: each ending, and that none runs what it carries."""

import collections
import os
import pickle
import sys

import numpy as np
import pytest

from tests.pretrained import published
from vidcls import pretrained

ARRAYS = {'a.weight': np.arange(6, dtype=np.float32).reshape(2, 3), 'b': np.array([1.5, -2.0])}


class Hostile:
    """A pickle that makes a file where it is opened."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def assert_read(path):
    published.assert_same(pretrained.read(path), ARRAYS)


def test_safetensors_and_npz(tmp_path):
    pretrained.save(tmp_path / 'w.safetensors', ARRAYS)
    assert_read(tmp_path / 'w.safetensors')
    np.savez(tmp_path / 'w.npz', **ARRAYS)
    assert_read(tmp_path / 'w.npz')


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize('ending', ['pdparams', 'pkl'])
def test_pickles_of_plain_arrays(tmp_path, ending, protocol):
    path = tmp_path / f'w.{ending}'
    paddle = {**ARRAYS, 'StructuredToParameterName@@': {'a.weight': 'linear_0.w_0'}, 'epoch': 3}
    path.write_bytes(pickle.dumps(paddle, protocol))
    assert_read(path)
    path.write_bytes(pickle.dumps(collections.OrderedDict((n, (n, a)) for n, a in ARRAYS.items()), protocol))
    assert_read(path)
    big_endian = {name: array.astype('>f4') for name, array in ARRAYS.items()}
    path.write_bytes(pickle.dumps(big_endian, protocol))
    np.testing.assert_array_equal(pretrained.read(path)['b'], [1.5, -2.0])
    assert np.dtype('float32').isnative


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize('ending', ['pdparams', 'pkl', 'pickle'])
def test_a_hostile_pickle_runs_nothing(tmp_path, ending, protocol):
    trace, path = tmp_path / 'trace', tmp_path / f'w.{ending}'
    path.write_bytes(pickle.dumps({**ARRAYS, 'c': Hostile(trace)}, protocol))
    with pytest.raises(ValueError, match=r'refused, .*mkdir is not admitted'):
        pretrained.read(path)
    assert not trace.exists()
    pickle.loads(path.read_bytes())  # it would have
    assert trace.exists()


@pytest.mark.parametrize(
    'value',
    [
        np.array([{'a': 1}], dtype=object),
        np.zeros(2, dtype=[('a', 'O')]),
        np.float32(1),
        print,
        slice(1),
        os.PathLike,
    ],
)
def test_what_is_more_than_arrays_of_numbers_is_refused(tmp_path, value):
    path = tmp_path / 'w.pdparams'
    path.write_bytes(pickle.dumps({'a': value}))
    with pytest.raises(ValueError, match='refused'):
        pretrained.read(path)


def test_objects_in_an_npz_are_refused(tmp_path):
    trace = tmp_path / 'trace'
    np.savez(tmp_path / 'w.npz', a=np.array([Hostile(trace)], dtype=object))
    with pytest.raises(ValueError, match='no .npz of plain arrays'):
        pretrained.read(tmp_path / 'w.npz')
    assert not trace.exists()


@pytest.mark.parametrize('ending', ['safetensors', 'npz', 'pdparams'])
@pytest.mark.parametrize('content', [b'', b'nonsense', bytes(100)])
def test_a_broken_file_is_named(tmp_path, ending, content):
    path = tmp_path / f'w.{ending}'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'w.{ending}'):
        pretrained.read(path)


def test_an_unknown_ending_and_an_absent_file_are_named(tmp_path):
    (tmp_path / 'w.h5').touch()
    with pytest.raises(ValueError, match=r"unknown ending '.h5'; known: .safetensors, .npz"):
        pretrained.read(tmp_path / 'w.h5')
    with pytest.raises(FileNotFoundError, match='absent.npz'):
        pretrained.read(tmp_path / 'absent.npz')
    np.savez(tmp_path / 'w.npz')
    with pytest.raises(ValueError, match='holds no named arrays'):
        pretrained.read(tmp_path / 'w.npz')
    with pytest.raises(ValueError, match='written as .safetensors'):
        pretrained.save(tmp_path / 'w.bin', ARRAYS)


# ---- PyTorch's files


def test_without_torch_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch', None)
    (tmp_path / 'w.pth').write_bytes(b'x')
    with pytest.raises(ValueError, match='pip install torch'):
        pretrained.read(tmp_path / 'w.pth')


@pytest.mark.parametrize('part', [None, 'state_dict', 'model_state', 'model'])
@pytest.mark.parametrize('ending', ['pth', 'pt', 'pyth', 'pth.tar', 'bin'])
def test_torchs_files(tmp_path, part, ending):
    torch = pytest.importorskip('torch')
    state = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}
    state['a.weight'] = state['a.weight'].to(torch.bfloat16)
    path = tmp_path / f'w.{ending}'
    torch.save({part: state, 'epoch': 3} if part else state, path)
    found = pretrained.read(path)
    assert set(found) == set(ARRAYS)
    np.testing.assert_array_equal(found['a.weight'], ARRAYS['a.weight'])


def test_a_hostile_torch_file_runs_nothing(tmp_path):
    torch = pytest.importorskip('torch')
    trace, path = tmp_path / 'trace', tmp_path / 'w.pth'
    torch.save({'state_dict': {'a': Hostile(trace)}}, path)
    with pytest.raises(ValueError, match='w.pth: refused'):
        pretrained.read(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # it would have
    assert trace.exists()


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
    assert_read('hf://org/name')
    assert_read('hf://org/name/sub/w.npz')
    assert len(pretrained.sha256('hf://org/name')) == 64
    with pytest.raises(ValueError, match='hf://org/other: not found'):
        pretrained.read('hf://org/other')


def test_a_wrong_address_and_an_absent_library_are_named(monkeypatch):
    with pytest.raises(ValueError, match='must be hf://org/name'):
        pretrained.read('hf://org')
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ValueError, match='needs huggingface_hub'):
        pretrained.read('hf://org/name')
