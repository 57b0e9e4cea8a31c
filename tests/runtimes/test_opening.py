"""Exported folders from elsewhere: what they may do, and what is said of those that are broken."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
from jax import export

from tests.export import small_runs
from vidcls.errors import UserError
from vidcls.export import folder
from vidcls.predict import Classifier
from vidcls.runtimes import description, opening


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    place = tmp_path_factory.mktemp('whole')
    folder.export(small_runs.make(place / 'run', 'tsn', clips=1), 'stablehlo', place / 'out')
    return place / 'out'


@pytest.fixture
def out(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / 'out')


def change(out, **values) -> None:
    path = out / description.FILENAME
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def redigest(out) -> None:
    """What somebody does who gives away another program on purpose."""
    format = json.loads((out / description.FILENAME).read_text())['format']
    change(out, files=description.digests(out, format))


@pytest.mark.parametrize(
    'values, message',
    [
        ({'format': 'pickle'}, "format='pickle': must be one of stablehlo"),
        ({'format': ['stablehlo']}, 'must be one of'),
        ({'input': [None, 4, None, None]}, 'must be five numbers'),
        ({'input': [None, -4, None, None, 3]}, 'must be five numbers'),
        ({'input': [10**12, 4, 32, 32, 3]}, 'must be five numbers'),
        ({'classes': 'five'}, 'must have a number of classes'),
        ({'classes': 6}, '5 labels for the 6 classes'),
        ({'platforms': 3}, 'platforms'),
        ({'files': {}}, 'not those that were exported'),
        ({'more': 1}, 'and nothing else'),
    ],
)
def test_a_description_that_is_none(out, values, message):
    change(out, **values)
    with pytest.raises(UserError, match=message):
        Classifier.load(out)


def test_a_changed_file(out):
    with (out / 'model.stablehlo').open('r+b') as file:
        file.seek(1000)
        file.write(b'changed')
    with pytest.raises(UserError, match='not those that were exported'):
        Classifier.load(out)


def test_a_broken_file(out):
    (out / 'model.stablehlo').write_bytes(b'broken')
    redigest(out)
    with pytest.raises(UserError, match='jax cannot open it'):
        Classifier.load(out)


@pytest.mark.parametrize(
    'make', [os.mkfifo, lambda path: path.symlink_to('/dev/zero'), lambda path: path.symlink_to('/etc/passwd')]
)
def test_a_file_that_is_none(out, make):
    (out / 'model.stablehlo').unlink()
    make(out / 'model.stablehlo')
    with pytest.raises(UserError, match='must be a file|outside its folder'):
        Classifier.load(out)


def test_a_program_that_calls_python_is_not_run(out, monkeypatch):
    """jax refuses to write one; so the call is put in with the name of one that it lets through."""

    def call(frames):
        token = jax.ffi.ffi_call('xla_ffi_python_cpu_callback', jax.ShapeDtypeStruct((1, 5), np.float32))(frames)
        return token

    disabled = [export.DisabledSafetyCheck.custom_call('xla_ffi_python_cpu_callback')]
    shape = jax.ShapeDtypeStruct((1, 4, 32, 32, 3), np.uint8)
    program = export.export(jax.jit(call), platforms=['cpu'], disabled_checks=disabled)(shape)
    (out / 'model.stablehlo').write_bytes(program.serialize())
    redigest(out)
    with pytest.raises(UserError, match="calls 'xla_ffi_python_cpu_callback'"):
        Classifier.load(out)


def test_a_savedmodel_that_writes_files_is_not_loaded(tmp_path):
    import tensorflow as tf

    written = tmp_path / 'written'

    class Writes(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 4, None, None, 3), tf.uint8, 'frames')])
        def serve(self, frames):
            tf.io.write_file(str(written), 'code')
            return {'probabilities': tf.zeros((1, 5))}

    module = Writes()
    tf.saved_model.save(module, str(tmp_path / 'model' / '1'), signatures={'serving_default': module.serve})
    with pytest.raises(UserError, match="has the operation 'WriteFile'"):
        opening.open_program(tmp_path, 'savedmodel')
    assert not written.exists()


def test_a_savedmodel_that_saves_when_it_is_called_is_not_run(tmp_path):
    """The operations that save stand in every SavedModel, and not in the function that is served."""
    import tensorflow as tf

    class Saves(tf.Module):
        def __init__(self):
            self.kept = tf.Variable(tf.zeros((1, 5)))

        @tf.function(input_signature=[tf.TensorSpec((None, 4, None, None, 3), tf.uint8, 'frames')])
        def serve(self, frames):
            tf.raw_ops.SaveV2(
                prefix=str(tmp_path / 'written'), tensor_names=['a'], shape_and_slices=[''], tensors=[self.kept]
            )
            return {'probabilities': tf.identity(self.kept)}

    module = Saves()
    tf.saved_model.save(module, str(tmp_path / 'model' / '1'), signatures={'serving_default': module.serve})
    with pytest.raises(UserError, match="has the operation 'SaveV2'"):
        opening.open_program(tmp_path, 'savedmodel')


def test_a_table_is_no_object_of_an_export(tmp_path):
    """A table reads its file when it is loaded."""
    import tensorflow as tf

    (tmp_path / 'words').write_text('a\nb\n')

    class Table(tf.Module):
        def __init__(self):
            words = tf.lookup.TextFileInitializer(
                str(tmp_path / 'words'),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            )
            self.table = tf.lookup.StaticHashTable(words, 0)

        @tf.function(input_signature=[tf.TensorSpec((None, 4, None, None, 3), tf.uint8, 'frames')])
        def serve(self, frames):
            return {'probabilities': self.table.lookup(tf.constant(['a']))}

    module = Table()
    tf.saved_model.save(module, str(tmp_path / 'model' / '1'), signatures={'serving_default': module.serve})
    with pytest.raises(UserError, match='which no export has'):
        opening.open_program(tmp_path, 'savedmodel')


def test_a_missing_library_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(opening.RUNTIMES, 'onnx', ('not_installed', opening.RUNTIMES['onnx'][1]))
    with pytest.raises(UserError, match=r"^onnx needs not_installed: pip install 'vidcls\[export\]'$"):
        opening.open_program(tmp_path, 'onnx')


def test_a_fixed_number_of_clips_takes_any():
    asked = []

    def program(frames):
        asked.append(len(frames))
        return frames.reshape(len(frames), -1)[:, :2].astype(np.float32)

    described = description.Description('onnx', (3, 1, 1, 2, 1), 2, ('cpu',), {}, {}, 0.0, {})
    frames = np.arange(14, dtype=np.uint8).reshape(7, 1, 1, 2, 1)
    found = opening.Exported(described, program)(frames)
    assert asked == [3, 3, 3]
    np.testing.assert_array_equal(found, np.arange(14).reshape(7, 2))
