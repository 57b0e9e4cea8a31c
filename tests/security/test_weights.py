"""Files of weights made to harm: each is refused with a reason, in moments, and nothing of it is run."""

import copy
import io
import json
import os
import pickle
import re
import struct
import zipfile

import pytest

from tests.security.confined import attack, check_refused

MARK, STOP, REDUCE, BUILD, SETITEM = b'(', b'.', b'R', b'b', b's'
DEFLATED = zipfile.ZIP_DEFLATED


# ---- Words of pickles


def text(value):
    data = value.encode('latin1') if isinstance(value, str) else value
    return b'X' + struct.pack('<I', len(data)) + data


def name(module, attribute):
    return f'c{module}\n{attribute}\n'.encode()


def number(value):
    return b'I%d\n' % value


def tuple_of(*parts):
    return MARK + b''.join(parts) + b't'


def call(module, attribute, *arguments):
    return name(module, attribute) + tuple_of(*arguments) + REDUCE


def named(value, key=b'a'):
    """A pickle of {'a': value}."""
    return b'\x80\x02}' + text(key) + value + SETITEM + STOP


TRACE = call('os', 'mkdir', text('trace'))
ORDERED = name('collections', 'OrderedDict')
# A tuple of a tuple twice, of a tuple twice, ...: 2^60 to hash, to compare or to print.
NEST = number(1) + b'\x85' + b'q\x00h\x00\x86' * 60


def array(kind=None, shape=b'(I2\nt', data=b'U\x08' + bytes(8), order=b'\x89'):
    kind = kind or dtype('f4')
    empty = call('numpy.core.multiarray', '_reconstruct', name('numpy', 'ndarray'), tuple_of(number(0)), text('b'))
    return empty + tuple_of(number(1), shape, kind, order, data) + BUILD


def dtype(code, *state):
    state = state or (number(3), text('<'), b'NNN', number(-1), number(-1), number(0))
    return call('numpy', 'dtype', text(code), number(0), number(1)) + tuple_of(*state) + BUILD


def forged_dtype():
    """An OrderedDict with an attribute `dtype`, which numpy takes as a structured type with a field of objects."""
    formats = text('names') + b']' + text('x') + b'a' + text('formats') + b']' + text('O') + b'a'
    described = ORDERED + b')R' + MARK + formats + text('itemsize') + number(8) + b'u'
    described += b'}' + text('itemsize') + number(8) + SETITEM + BUILD
    return ORDERED + b')R' + b'}' + text('dtype') + described + SETITEM + BUILD


# ---- Words of PyTorch's files


def storage(count, kind='FloatStorage', key='0', what='storage', view=b''):
    return tuple_of(text(what), name('torch', kind), text(key), text('cpu'), number(count), view) + b'Q'


def tensor(held=4, offset=0, shape=(4,), strides=(1,), rebuild='_rebuild_tensor_v2', **more):
    places = [tuple_of(*map(number, values)) for values in (shape, strides)]
    return call('torch._utils', rebuild, storage(held, **more), number(offset), *places, b'\x89', ORDERED + b')R')


def zipped(files, packing=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', packing) as archive:
        for member, content in files.items():
            archive.writestr(member, content)
    return file.getvalue()


def torch_zip(value, data=bytes(16), **more):
    return zipped({'w/data.pkl': named(value), 'w/data/0': data, **more})


def torch_old(value, keys=('0',), counts=(4,), data=bytes(16), little=True):
    beginning = [0x1950A86A20F9469CFC6C, 1001, {'protocol_version': 1001, 'little_endian': little}]
    words = b''.join(pickle.dumps(part, 2) for part in beginning) + named(value)
    words += keys if isinstance(keys, bytes) else pickle.dumps(list(keys), 2)
    return words + b''.join(struct.pack('<q', count) for count in counts) + data


# ---- Words of .npz and .safetensors


def npy(descr="'<f4'", shape='(2,)', data=bytes(8), version=1):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = struct.pack('<H' if version == 1 else '<I', len(header))
    return b'\x93NUMPY' + bytes([version, 0]) + size + header + data


def bomb(said=None):
    """A zip file of 0.1 MB that unpacks to 100 MB; its entry may say that they are fewer."""
    content = zipped({'a.npy': npy(shape='(26214400,)' if said is None else '(2,)', data=bytes(100 << 20))}, DEFLATED)
    if said is None:
        return content
    entry = content.index(b'PK\1\2')
    return content[: entry + 24] + struct.pack('<I', said) + content[entry + 28 :]


def overlapping():
    """One member under many names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('a.npy', npy(shape='(2097152,)', data=bytes(8 << 20)))
        for i in range(30):
            archive.filelist.append(copy.copy(archive.filelist[0]))
            archive.filelist[-1].filename = f'{i}.npy'
    return file.getvalue()


def safetensors(header, data=b''):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(header)) + header + data


def entry(dtype='F32', shape=(2,), offsets=(0, 8)):
    return {'a': {'dtype': dtype, 'shape': shape, 'data_offsets': offsets}}


def many_names():
    """As the file of 99 MB that took 1.4 GB, a sixth of it."""
    return safetensors(b'{%s}' % b','.join(
        b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(240_000)
    ))  # fmt: skip


def colliding():
    """Names that are whole numbers of one hash."""
    pairs = (b'\x8a\x10' + (i * (2**61 - 1)).to_bytes(16, 'little') + b'N' for i in range(1, 60_000))
    return b'\x80\x02}' + MARK + b''.join(pairs) + b'u.'


# Name -> ending, content, what the reason has.
FILES = {
    # What would run.
    'a call of os': ('pkl', named(TRACE), 'os.mkdir is not admitted'),
    'a call of os by INST': ('pkl', named(MARK + text('trace') + b'ios\nmkdir\n'), 'INST is not admitted'),
    'a call of os by OBJ': ('pkl', named(MARK + name('os', 'mkdir') + text('trace') + b'o'), 'mkdir is not admitted'),
    'a call of a known name by OBJ': ('pkl', named(MARK + ORDERED + b'o'), 'OBJ is not admitted'),
    'a call of os by NEWOBJ': ('pkl', named(name('os', 'mkdir') + text('trace') + b'\x85\x81'), 'mkdir is not admitted'),
    'a call by NEWOBJ_EX': ('pkl', named(ORDERED + b')}\x92'), 'NEWOBJ_EX is not admitted'),
    'eval': ('pdparams', named(name('builtins', 'eval') + text("open('trace', 'w')") + b'\x85R'), 'eval is not admitted'),
    'a name within a module': ('pkl', b'\x80\x04' + text('numpy') + text('ndarray.tofile') + b'\x93.', 'tofile is not'),
    'a name that is nested': ('pkl', b'\x80\x04' + NEST + text('x') + b'\x93.', 'a name that is no text'),
    'getattr': ('pkl', named(call('builtins', 'getattr', ORDERED, text('fromkeys'))), 'getattr is not admitted'),
    'an extension': ('pkl', named(b'\x82\x01'), 'EXT1 is not admitted'),
    'a persistent id': ('pkl', named(text('x') + b'Q'), 'refers to what is outside'),
    'a persistent id in words': ('pkl', named(b'Px\n'), 'PERSID is not admitted'),
    'another codec': ('pkl', named(call('_codecs', 'encode', text('x'), text('zip'))), 'no text in latin1'),
    'a call of a class of numpy': ('pkl', named(call('numpy', 'ndarray', tuple_of(number(2)))), 'can not be called'),
    'a call of a text': ('pkl', named(text('x') + b')R'), 'can not be called'),
    'buffers from elsewhere': ('pkl', named(b'\x97'), 'NEXT_BUFFER is not admitted'),
    # What would be taken for something else.
    'a forged dtype': ('pkl', named(array(forged_dtype(), tuple_of(number(1)), b'U\x08' + b'\1' * 8)), 'no known type'),
    'an attribute detach': ('pkl', named(ORDERED + b')R}' + text('detach') + ORDERED + SETITEM + BUILD), 'no named arrays'),
    'a state for a class': ('pkl', named(ORDERED + b'}' + text('x') + number(1) + SETITEM + BUILD), 'state to what has none'),
    'objects': ('pkl', named(array(dtype('O8'))), "arrays of 'O8' are not admitted"),
    'records': (
        'pkl',
        named(array(dtype('f8', number(3), text('|'), b'N', tuple_of(text('x')), b'}', number(8), number(1), number(63)))),
        'more than numbers',
    ),
    'bytes as a type': ('pkl', named(call('numpy', 'dtype', NEST)), 'a tuple are not admitted'),
    'a shape beyond its bytes': ('pkl', named(array(shape=tuple_of(number(10**9)))), 'without as many bytes'),
    'a negative shape': ('pkl', named(array(shape=tuple_of(number(-2), number(-1)))), 'not a whole number'),
    'a shape of texts': ('pkl', named(array(shape=tuple_of(text('2')))), 'not a whole number'),
    'a shape of itself': ('pkl', named(array(shape=NEST)), 'not a whole number'),
    'a whole array of none': ('pkl', named(array(data=b'N')), 'without as many bytes'),
    # What would take for ever, or all memory.
    'encode again and again': (
        'pkl',
        b'\x80\x02]' + text('x' * 400_000) + b'q\x01a' + name('_codecs', 'encode') + b'q\x02a' + text('latin1') + b'q\x03a'
        + b'h\x02h\x01h\x03\x86Ra' * 50_000 + STOP,
        'the same text many times over',
    ),
    'huge numbers in a shape': ('pkl', named(array(shape=tuple_of(*[number(10**4000)] * 250))), 'of over 200 characters'),
    'large numbers in a shape': ('pkl', named(array(shape=tuple_of(*[number(10**190)] * 5000))), 'at most 32 numbers'),
    'a number of a megabyte': ('pkl', named(b'\x8b' + struct.pack('<i', 1 << 20) + b'\x7f' * (1 << 20)), 'LONG4 is not'),
    'names that collide': ('pkl', colliding, 'int as a name'),
    'a nested name': ('pkl', b'}' + NEST + number(1) + SETITEM + STOP, 'tuple as a name'),
    'a nested name of a pair': ('pkl', call('collections', 'OrderedDict', b']' + tuple_of(NEST, b'N') + b'a') + STOP, 'tuple as a name'),
    'a list copied again and again': (
        'pkl',
        b'\x80\x02](' + (text('x') + b'N\x86') * 50_000 + b'eq\x01](' + (ORDERED + b'h\x01\x85R') * 25_000 + b'e.',
        'more than 500,000 steps',
    ),
    'a set': ('pkl', b'\x80\x04\x8f(' + NEST + b'\x90.', 'EMPTY_SET is not admitted'),
    'a frozen set': ('pkl', b'\x80\x04(' + NEST + b'\x91.', 'FROZENSET is not admitted'),
    'a memo of 2^32 places': ('pkl', b'\x80\x02}r\xff\xff\xff\xffU\x01aK\x01s.', 'no named arrays'),
    'itself': ('pkl', b'\x80\x02}q\x00U\x05modelh\x00s.', 'no named arrays'),
    'a terabyte of bytes': ('pkl', b'\x80\x05\x96' + struct.pack('<Q', 1 << 40) + b'abc.', 'bytes8|bytearray8'),
    'a million lists': ('pkl', MARK * 1_000_000 + b'l' * 1_000_000 + STOP, 'more than 500,000 steps'),
    'a deep tuple': ('pkl', b'\x80\x02N' + b'\x85' * 400_000 + STOP, 'no named arrays'),
    'a line of a megabyte': ('pkl', b'I' + b'1' * (1 << 20) + b'\n.', 'over 200 characters'),
    'many arrays': (
        'pkl',
        b'\x80\x02}' + MARK + text('x') + array() + b'q\x01' + b''.join(text(str(i)) + b'h\x01' for i in range(10_000)) + b'u.',
        '10,001 arrays; at most 10,000',
    ),
    'a name that a terminal obeys': ('pkl', named(array(), '\x1b]0;x\x07'), 'no plain line'),
    # Archives of numpy.
    'an .npz that unpacks': ('npz', bomb, 'unpacks to 104,'),
    'an .npz that says it does not': ('npz', lambda: bomb(len(npy())), 'Bad CRC-32'),
    'one member under many names': ('npz', overlapping, 'unpacks to 260,'),
    'a list of names of 6 MB': ('npz', lambda: zipped(dict.fromkeys((f'{i:0250}' for i in range(20_000)), b'')), 'list of names of'),
    'a shape of 40 TB': ('npz', zipped({'a.npy': npy(shape='(10000000000000,)')}), 'without as many bytes'),
    'objects in an .npz': ('npz', zipped({'a.npy': npy("'|O'", data=pickle.dumps(1))}), 'no plain numbers'),
    'records in an .npz': ('npz', zipped({'a.npy': npy("[('x', 'O')]")}), 'no plain numbers'),
    'code in a header': ('npz', zipped({'a.npy': npy("__import__('os').mkdir('trace')")}), 'broken'),
    'a deep header': ('npz', zipped({'a.npy': npy(shape='-' * 9000 + '1')}), 'broken'),
    'a header of a megabyte': ('npz', zipped({'a.npy': npy(shape='(' * (1 << 20), version=2)}), 'broken'),
    'packed by LZMA': ('npz', zipped({'a.npy': npy()}, zipfile.ZIP_LZMA), 'otherwise than by deflation'),
    'a path for a name': ('npz', zipped({'../../a\n.npy': npy()}), 'no plain line'),
    # PyTorch's.
    'a call of os in PyTorch': ('pth', torch_zip(TRACE), 'os.mkdir is not admitted'),
    'a call of os in old PyTorch': ('pth', torch_old(TRACE), 'os.mkdir is not admitted'),
    'a function of torch': ('pth', torch_zip(call('torch', 'load', text('/etc/passwd'))), 'torch.load is not admitted'),
    'a sparse tensor': ('pth', torch_zip(call('torch._utils', '_rebuild_sparse_tensor')), 'sparse_tensor is not admitted'),
    'views with stride 0': (
        'pth', lambda: torch_zip(tensor(786_432, shape=(4 << 30,), strides=(0,)), bytes(3 << 20)), 'in a storage of 786,432',
    ),
    'a view beyond its storage': ('pth', torch_zip(tensor(offset=1)), r'shape \(4,\) in a storage of 4'),
    'strides beyond the storage': ('pth', torch_zip(tensor(shape=(2, 2), strides=(1, 10**15))), 'in a storage of 4'),
    'a negative stride': ('pth', torch_zip(tensor(strides=(-1,))), 'not a whole number'),
    'a negative offset': ('pth', torch_zip(tensor(offset=-4)), 'not a whole number'),
    'a shape without strides': ('pth', torch_zip(tensor(shape=(2, 2))), 'broken'),
    'a storage larger than its bytes': ('pth', torch_zip(tensor(1 << 40)), 'without as many bytes'),
    'a storage of another file': ('pth', torch_zip(tensor(key='../../../etc/passwd')), 'without as many bytes'),
    'a storage of two types': (
        'pth', torch_zip(tuple_of(storage(4), storage(2, 'DoubleStorage'))), 'another one of the same name',
    ),
    'a storage of no type': ('pth', torch_zip(tuple_of(tuple_of(*map(text, ('storage', 'x', '0', 'cpu')), b'N') + b'Q')), 'whole'),
    'a module of PyTorch': ('pth', torch_old(storage(4, what='module')), 'no storage of PyTorch'),
    'a program of TorchScript': ('pth', torch_zip(tensor(), **{'w/constants.pkl': b'x'}), 'TorchScript'),
    'a zip file without a pickle': ('pth', zipped({'a.npy': npy()}), 'not of torch.save'),
    'a packed .pth': ('pth', lambda: zipped({'w/data.pkl': named(TRACE) + bytes(1 << 20)}, DEFLATED), 'as files of torch.save'),
    'names of 20 MB': ('pth', lambda: zipped({'w/data.pkl': bytes(20 << 20)}), 'at most 16,777,216'),
    'big-endian numbers': ('pth', torch_zip(tensor(), **{'w/byteorder': b'big'}), 'big-endian'),
    'big-endian numbers in old PyTorch': ('pth', torch_old(tensor(), little=False), 'big-endian'),
    'storages that are nested': ('pth', torch_old(tensor(), keys=b'](' + NEST + b'e.'), 'list of storages'),
    'an exabyte in old PyTorch': ('pth', torch_old(tensor(1 << 58), counts=(1 << 58,)), 'broke off'),
    'counts that differ': ('pth', torch_old(tensor(), counts=(-4,)), 'a storage of -4 numbers'),
    'a pickle as .pth': ('pth', named(array()), 'is not admitted'),
    # safetensors.
    'a header of 13 MB': ('safetensors', many_names, 'a header of'),
    'a header of an exabyte': ('safetensors', struct.pack('<Q', 1 << 60) + b'{}', 'a header of'),
    'a deep header of safetensors': ('safetensors', safetensors(b'{"a":' * 100_000), 'refused'),
    'a shape that overflows': ('safetensors', safetensors(entry(shape=(10**9, 10**9, 10**9)), bytes(8)), 'refused'),
    'offsets beyond the file': ('safetensors', safetensors(entry(offsets=(0, 1 << 40), shape=(1 << 38,)), bytes(8)), 'refused'),
    'negative offsets': ('safetensors', safetensors(entry(offsets=(-8, 0)), bytes(8)), 'refused'),
    'an unknown type': ('safetensors', safetensors(entry('OBJECT'), bytes(8)), 'refused'),
}  # fmt: skip


def read(folder, file):
    """Reads and uses what was read."""
    from vidcls.pretrained import reading

    os.chdir(folder)
    for array in reading.read(file).values():
        array.tolist()


@pytest.mark.parametrize('attempt', FILES)
def test_a_hostile_file_is_refused(tmp_path, attempt):
    ending, content, reason = FILES[attempt]
    (tmp_path / f'w.{ending}').write_bytes(content() if callable(content) else content)
    outcome = attack(read, tmp_path, tmp_path / f'w.{ending}')
    check_refused(outcome)
    assert re.search(reason, outcome.message) and f'w.{ending}' in outcome.message, outcome
    assert outcome.message.isprintable() and len(outcome.message) < 600, outcome  # one line, and no terminal obeys it
    assert os.listdir(tmp_path) == [f'w.{ending}']


def read_after(folder, bad, good):
    """Reads a good file after a bad one."""
    from vidcls.errors import UserError
    from vidcls.pretrained import reading

    refused = None
    try:
        reading.read(bad)
    except UserError as error:
        refused = error
    try:
        assert list(reading.read(good)) == ['a']
    except UserError as error:
        raise AssertionError('the good file is refused') from error
    raise refused


def test_a_file_changes_nothing_for_the_next(tmp_path):
    poison = ORDERED + tuple_of(b'N', b'}' + text('__init__') + number(1) + SETITEM) + BUILD  # setattr on the class
    (tmp_path / 'bad.pkl').write_bytes(named(poison))
    (tmp_path / 'good.pkl').write_bytes(b'\x80\x02' + ORDERED + b')R' + text('a') + array() + SETITEM + STOP)
    files = (tmp_path / 'bad.pkl', tmp_path / 'good.pkl')
    check_refused(attack(read_after, tmp_path, *files))


def pipe(path):
    os.mkfifo(path)


def endless(path):
    path.symlink_to('/dev/zero')


def loop(path):
    path.symlink_to(path)


def huge(path):
    path.touch()
    os.truncate(path, 9 << 30)  # of which the disk has none


@pytest.mark.parametrize('ending', ['pkl', 'pth', 'npz', 'safetensors'])
@pytest.mark.parametrize(
    'make, reason',
    [
        (pipe, 'a pipe'),
        (endless, 'a pipe'),
        (loop, 'no such file'),
        (os.mkdir, 'a folder'),
        (huge, 'at most 8,589,934,592'),
    ],
)
def test_what_is_no_file_of_weights_is_refused(tmp_path, make, reason, ending):
    path = tmp_path / f'w.{ending}'
    make(path)
    outcome = attack(read, tmp_path, path)
    check_refused(outcome)
    assert reason in outcome.message, outcome
