"""Files: each ending, and that none runs what it carries."""

import collections
import io
import json
import os
import pickle
import struct
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from tests.pretrained import published
from vidcls import pretrained
from vidcls.errors import UserError

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
    with pytest.raises(ValueError, match='w.npz: refused, .*no plain numbers'):
        pretrained.read(tmp_path / 'w.npz')
    assert not trace.exists()


@pytest.mark.parametrize('ending', ['safetensors', 'npz', 'pdparams'])
@pytest.mark.parametrize('content', [b'', b'nonsense', bytes(100)])
def test_a_broken_file_is_named(tmp_path, ending, content):
    path = tmp_path / f'w.{ending}'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'w.{ending}'):
        pretrained.read(path)


def header(entry, data=bytes(4)):
    text = json.dumps({'a': entry}).encode()
    return struct.pack('<Q', len(text)) + text + data


def npy(shape, data=b''):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {'descr': '<f4', 'fortran_order': False, 'shape': shape})
    return zipped({'a.npy': file.getvalue() + data})


def zipped(files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


# An array's pickle, with room for its type, the flags of that, its shape and its bytes.
RAW = (
    b"}}S'a'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I%b\ntcnumpy\ndtype\n(S'%b'\nI0\nI1\ntR"
    b"(I3\nS'<'\nNNNI-1\nI-1\nI%b\ntbI00\n%b\ntbs."
).replace(b'}}', b'}')
# A tuple of a tuple twice, of a tuple twice, ...: 2^60 to hash or to print.
NEST = b'I1\n\x85' + b'q\x00h\x00\x86' * 60
RAW_BYTES = b"S'" + b'\\x01' * 8 + b"'"


@pytest.mark.parametrize(
    'ending, content, message',
    [
        ('safetensors', header({'dtype': 'F32', 'shape': [10**9, 10**9], 'data_offsets': [0, 4]}), 'overflow'),
        ('safetensors', header({'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}), 'not fully covered'),
        ('safetensors', struct.pack('<Q', 2**60) + b'{}', 'a header of 1,152,921,504,606,846,976 bytes'),
        ('safetensors', header({'dtype': 'F8_E4M3', 'shape': [4], 'data_offsets': [0, 4]}), 'float8'),
        ('npz', zipped({'readme.txt': 'words'}), 'other files than arrays'),
        ('npz', npy((10**13,)), 'without as many bytes'),
        ('npz', npy((4,), bytes(8)), 'without as many bytes'),
        ('npz', pickle.dumps({'a': np.zeros(2)}), 'not a whole zip file'),
        ('pdparams', RAW % (b'1', b'O8', b'63', b'(lp0\nI1\na'), "arrays of 'O8' are not admitted"),
        ('pdparams', RAW % (b'9999999', b'f8', b'0', RAW_BYTES), 'without as many bytes'),
        # Would be what memory holds.
        ('pdparams', (RAW % (b'2', b'f4', b'0', b'@')).replace(b'@\n', b'N'), 'without as many bytes'),
        ('pdparams', RAW % (b'1', b'f4', b'0', RAW_BYTES), 'without as many bytes'),
        ('pdparams', b'}' + NEST + b'I1\ns.', 'a tuple as a name'),
        ('pdparams', b'ccollections\nOrderedDict\n(((' + NEST + b'I1\ntltR.', 'a tuple as a name'),
        ('pdparams', b'\x80\x04\x8f(' + NEST + b'\x90.', 'EMPTY_SET is not admitted'),
        ('pdparams', b'cnumpy\ndtype\n(' + NEST + b'tR.', 'arrays of a tuple are not admitted'),
        ('pdparams', RAW % (b'1', b'M8', b'0', RAW_BYTES), "arrays of 'M8' are not admitted"),
        ('pdparams', b'\x80\x02}r\x00\x00\x00\x4eU\x01aK\x01s.', 'holds no named arrays'),  # a memo of 20 GB in C
        ('pdparams', b'\x80\x05\x96' + struct.pack('<Q', 2**40) + b'abc.', 'refused'),  # 1 TB, says it
        ('pdparams', b'\x80\x02}q\x00U\x05modelh\x00s.', 'holds no named arrays'),  # holds itself
        ('pdparams', b'\x80\x04\x8c\x05numpy\x8c\x0bndarray.all\x93.', 'ndarray.all is not admitted'),
    ],
)
def test_what_lies_about_itself_is_refused(tmp_path, ending, content, message):
    path = tmp_path / f'w.{ending}'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'w.{ending}: .*{message}'):
        pretrained.read(path)


def test_the_flags_of_a_pickled_type_are_not_believed(tmp_path):
    """63 would say to numpy that these eight bytes are the address of an object."""
    path = tmp_path / 'w.pdparams'
    path.write_bytes(RAW % (b'1', b'f8', b'63', RAW_BYTES))
    found = pretrained.read(path)['a']
    assert not found.dtype.hasobject and found.tobytes() == b'\x01' * 8


@pytest.mark.parametrize('ending', ['safetensors', 'npz', 'pdparams'])
def test_a_file_that_broke_off_is_refused_wherever(tmp_path, ending):
    whole, path = tmp_path / f'whole.{ending}', tmp_path / f'w.{ending}'
    if ending == 'safetensors':
        pretrained.save(whole, ARRAYS)
    elif ending == 'npz':
        np.savez(whole, **ARRAYS)
    else:
        whole.write_bytes(pickle.dumps(ARRAYS))
    content = whole.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=f'w.{ending}'):
            pretrained.read(path)


def test_half_types_and_nested_parts(tmp_path):
    half = {'a': np.array([1.5, -2.0], np.float16), 'b': np.array([1.5, -2.0], jnp.bfloat16), 'n': np.int64(3)}
    np.savez(tmp_path / 'w.npz', **half)
    found = pretrained.read(tmp_path / 'w.npz')
    assert found['b'].dtype == jnp.bfloat16 and found['n'] == 3
    np.testing.assert_array_equal(found['b'].astype(np.float32), [1.5, -2.0])
    pretrained.save(tmp_path / 'w.safetensors', {'b': half['b']})
    assert pretrained.read(tmp_path / 'w.safetensors')['b'].dtype == jnp.bfloat16
    (tmp_path / 'w.pkl').write_bytes(pickle.dumps({'epoch': 3, 'model': {'state_dict': ARRAYS, 'optimizer': {}}}))
    assert_read(tmp_path / 'w.pkl')


def test_an_unknown_ending_and_an_absent_file_are_named(tmp_path):
    (tmp_path / 'w.h5').touch()
    with pytest.raises(ValueError, match=r"unknown ending '.h5'; known: .safetensors, .npz"):
        pretrained.read(tmp_path / 'w.h5')
    with pytest.raises(UserError, match='absent.npz'):
        pretrained.read(tmp_path / 'absent.npz')
    (tmp_path / 'folder.npz').mkdir()
    with pytest.raises(UserError, match='a folder; name the file in it'):
        pretrained.read(tmp_path / 'folder.npz')
    np.savez(tmp_path / 'w.npz')
    with pytest.raises(ValueError, match='holds no named arrays'):
        pretrained.read(tmp_path / 'w.npz')
    with pytest.raises(ValueError, match='written as .safetensors'):
        pretrained.save(tmp_path / 'w.bin', ARRAYS)


def test_kept_in_rows_or_columns_and_by_every_version_of_numpy(tmp_path):
    """As numpy 1 and 2 and Python 2 write them: names of modules, columns first, bytes as text in each protocol."""
    columns = {'a': np.asfortranarray(ARRAYS['a.weight']), 'b': np.array(2.5), 'c': np.zeros((0, 3), np.int8)}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        content = pickle.dumps(columns, protocol)
        for names in (content, content.replace(b'numpy._core', b'numpy.core')):
            if protocol >= 4 and names is not content:
                continue  # lengths stand before the names
            (tmp_path / 'w.pkl').write_bytes(names)
            published.assert_same(pretrained.read(tmp_path / 'w.pkl'), columns)
    numbers = np.array([1.5, -2.0, 3e-38], '<f4')
    written = ''.join(f'\\x{byte:02x}' for byte in numbers.tobytes()).encode()  # Python 2's repr, bytes above 127 too
    (tmp_path / 'w.pkl').write_bytes((RAW % (b'3', b'f4', b'0', b"S'%s'" % written)).replace(b"S''", b"S'"))
    np.testing.assert_array_equal(pretrained.read(tmp_path / 'w.pkl')['a'], numbers)


# ---- PyTorch's files, which need no PyTorch


def storage(key, kind='FloatStorage', count=6, view=b''):
    return b"(S'storage'\nctorch\n%b\nS'%b'\nS'cpu'\nI%d\n%btQ" % (kind.encode(), key.encode(), count, view)


def tensor(stored, offset, shape, strides):
    words = [b'(%bt' % b''.join(b'I%d\n' % value for value in values) for values in (shape, strides)]
    return b'ctorch._utils\n_rebuild_tensor_v2\n(%bI%d\n%b%bI00\nccollections\nOrderedDict\n)RtR' % (
        stored, offset, *words,
    )  # fmt: skip


def state(view):
    """A state dict with its `_metadata`; a Parameter as today and one as PyTorch 0.3 wrote it (`torch.load` reads them)."""
    return (
        b"ccollections\nOrderedDict\n)R(S'a.weight'\n%bS'turned'\nctorch._utils\n_rebuild_parameter\n(%bI01\n"
        b"ccollections\nOrderedDict\n)RtRS'b'\nctorch.nn.parameter\nParameter\n(%btR(I01\nI00\nNtbu}S'_metadata'\n}sb"
    ) % (
        tensor(storage('0', view=view), 0, (2, 3), (3, 1)),
        tensor(storage('0', view=view), 1, (3,), (2,)),
        tensor(storage('9', 'DoubleStorage', 2, view), 0, (2,), (1,)),
    )


NUMBERS = {'0': ARRAYS['a.weight'].tobytes(), '9': ARRAYS['b'].tobytes()}
READ = {'a.weight': ARRAYS['a.weight'], 'turned': ARRAYS['a.weight'].reshape(-1)[1::2], 'b': ARRAYS['b']}
BEGINNING = b''.join(
    pickle.dumps(part, 2)
    for part in (0x1950A86A20F9469CFC6C, 1001, {'protocol_version': 1001, 'little_endian': True, 'type_sizes': {}})
)


def saved_as_zip(pattern):
    words = b'\x80\x02%b.' % (pattern % state(b''))
    return zipped({'w/data.pkl': words, 'w/version': '3', **{f'w/data/{key}': data for key, data in NUMBERS.items()}})


def saved_as_before(pattern):
    stored = b''.join(struct.pack('<q', count) + NUMBERS[key] for key, count in (('9', 2), ('0', 6)))
    return BEGINNING + b'\x80\x02%b.' % (pattern % state(b'N')) + pickle.dumps(['9', '0'], 2) + stored


@pytest.mark.parametrize('ending', ['pth', 'pt', 'pyth', 'pth.tar', 'bin'])
@pytest.mark.parametrize('save', [saved_as_zip, saved_as_before])
def test_both_of_pytorchs_forms(tmp_path, save, ending):
    path = tmp_path / f'w.{ending}'
    for pattern in (b'%b', b"}(S'epoch'\nI3\nS'state_dict'\n%bu"):
        path.write_bytes(save(pattern))
        published.assert_same(pretrained.read(path), READ)


@pytest.mark.parametrize('save', [saved_as_zip, saved_as_before])
def test_a_pytorch_file_that_broke_off_is_refused_wherever(tmp_path, save):
    content, path = save(b'%b'), tmp_path / 'w.pth'
    for size in range(0, len(content), 5):
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match='w.pth: refused'):
            pretrained.read(path)


def test_a_changed_file_is_refused_or_read_and_nothing_else(tmp_path):
    """Bytes exchanged at random places; 3,000 such files of more kinds were tried by hand."""
    np.savez_compressed(tmp_path / 'w.npz', **ARRAYS)
    pretrained.save(tmp_path / 'w.safetensors', ARRAYS)
    files = [('pth', saved_as_zip(b'%b')), ('pth', saved_as_before(b'%b')), ('npz', (tmp_path / 'w.npz').read_bytes())]
    files += [('pkl', pickle.dumps(ARRAYS, protocol)) for protocol in range(6)]
    files += [('safetensors', (tmp_path / 'w.safetensors').read_bytes())]
    random = np.random.default_rng(17)
    for _ in range(300):
        ending, content = files[random.integers(len(files))]
        changed = np.frombuffer(content, np.uint8).copy()
        changed[random.integers(len(changed), size=random.integers(1, 5))] = random.integers(256)
        (tmp_path / f'w.{ending}').write_bytes(changed.tobytes())
        try:
            assert all(array.dtype.kind in 'biuf' for array in pretrained.read(tmp_path / f'w.{ending}').values())
        except UserError as error:
            assert f'w.{ending}: ' in str(error)


def checkpoints(torch):
    """What people save, by a name."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 2, 3))
    optimizer = torch.optim.AdamW(net.parameters())
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    net(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    state, base = net.state_dict(), torch.arange(240.0).reshape(2, 3, 40)
    more = {
        'optimizer': optimizer.state_dict(),
        'schedule': schedule.state_dict(),
        'size': torch.Size([2]),
        'big': 2**70,
    }
    return {
        'state': state,
        'checkpoint': {'state_dict': state, 'best': torch.tensor(3.5), 'epoch': 3, 'cfg': 'a: 1\n', 'raw': b'\xff', **more},
        'nested': {'model_state': {'model': state}, 'device': torch.device('cpu'), 'loss': 1.5, 'none': None},
        'parameters': dict(net.named_parameters()),
        'kinds': {
            kind: torch.arange(6).to(getattr(torch, kind))
            for kind in ('float64', 'float32', 'float16', 'bfloat16', 'int64', 'int32', 'int16', 'int8', 'uint8', 'bool')
        },
        'views': {
            'turned': base.permute(2, 0, 1), 'steps': base[:, ::2, 3:], 'whole': base, 'one': base[0, 0, 1],
            'none': base[:, :0], 'needs': torch.ones(2, requires_grad=True), 'expanded': torch.arange(4.0).expand(1, 4),
        },
    }  # fmt: skip


def test_what_torch_saves_is_what_torch_loads(tmp_path):
    torch, path = pytest.importorskip('torch'), tmp_path / 'w.pth'
    for saved in checkpoints(torch).values():
        for new in (True, False):
            for protocol in (2, 5):
                torch.save(saved, path, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
                found, expected = pretrained.read(path), torch.load(path, weights_only=False)
                for part in ('state_dict', 'model_state', 'model'):
                    expected = expected.get(part, expected)
                expected = {name: value.detach() for name, value in expected.items()}
                assert {name: str(array.dtype) for name, array in found.items()} == {
                    name: str(value.dtype).removeprefix('torch.') for name, value in expected.items()
                }
                published.assert_same(
                    {name: array.astype(np.float64) for name, array in found.items()},
                    {name: value.double().numpy() for name, value in expected.items()},
                )


def test_a_hostile_torch_file_runs_nothing(tmp_path):
    torch = pytest.importorskip('torch')
    trace, path = tmp_path / 'trace', tmp_path / 'w.pth'
    torch.save({'state_dict': {'a': Hostile(trace)}}, path)
    with pytest.raises(UserError, match='w.pth: refused.* (posix|nt).mkdir is not admitted'):
        pretrained.read(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # it would have
    assert trace.exists()


def test_a_tensor_that_numpy_has_no_array_for_is_named(tmp_path):
    torch = pytest.importorskip('torch')
    torch.save({'a': torch.eye(3).to_sparse()}, tmp_path / 'w.pth')
    with pytest.raises(UserError, match='w.pth: refused, .*_rebuild_sparse_tensor is not admitted'):
        pretrained.read(tmp_path / 'w.pth')
