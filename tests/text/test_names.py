"""Names as people see them."""

import json

import pytest

from vidcls.errors import UserError
from vidcls.text import names


@pytest.mark.parametrize(
    ('name', 'shown'),
    [
        ('two words 打篮球 café 🏀 👨\u200d👩\u200d👧 می\u200cرود a\u3000b', None),  # as it is
        ('a\nb\tc\r', '\\n'.join('ab') + '\\tc\\r'),
        ('\x1b[31mred\x7f', '\\x1b[31mred\\x7f'),
        ('\x9b31m', '\\x9b31m'),  # the same escape sequence in one byte of ISO 6429
        ('a\u2028b\u202ec', 'a\\u2028b\\u202ec'),  # a line break; right to left from here
        (b'caf\xe9'.decode('utf-8', 'surrogateescape'), 'caf\\xe9'),
        ('\ud800', '\\ud800'),
    ],
)
def test_readable(name, shown):
    assert names.readable(name) == (shown or name)


def test_a_message_keeps_its_lines():
    assert names.readable_lines('a\x1b[2J:\n\tb\r') == 'a\\x1b[2J:\n\tb\\r'


@pytest.mark.parametrize('start', '=+-@＝＋－＠')
def test_a_spreadsheet_runs_no_name(start):
    assert names.cell(f'{start}cmd()') == f"'{start}cmd()"
    assert names.cell(f'a{start}b') == f'a{start}b'


def test_what_a_spreadsheet_would_strip_is_escaped():
    assert names.cell('\t=1\r') == '\\t=1\\r'


def test_json_is_exact_and_holds_nothing_that_a_terminal_obeys():
    assert names.as_json({'label': '打篮球'}) == '{"label": "打篮球"}'
    for name in ('\x9b31m', '\u202eabc', '\u2028', 'caf\udce9', '=cmd()', 'a\nb'):
        line = names.as_json([name])
        assert json.loads(line) == [name] and names.readable(line) == line


@pytest.mark.parametrize('label', ['', ' a', 'a ', 'a\nb', 'a\u2028b', '\x1b[31m', 'a\u3000', 'caf\udce9', 'a\x85b'])
def test_labels_that_would_shift_the_others(label):
    with pytest.raises(UserError) as error:
        names.check_label(label, 'here\n')
    assert str(error.value).startswith(f'here\\n: the class name {label!r} is not one printable line')
    assert 'rename' in str(error.value)


@pytest.mark.parametrize(
    'label', ['two words', '打篮球', 'e\u0301', '🏀', '👨\u200d👩\u200d👧', '=cmd()', '-1', 'می\u200cرود']
)
def test_labels_of_every_script(label):
    assert names.check_label(label, 'here') == label


def test_things_are_counted_in_words():
    counted = [
        names.counted(*each) for each in ((1, 'clip'), (3783, 'clip'), (0, 'film'), (1, 'class'), (101, 'class'))
    ]
    assert counted == ['1 clip', '3,783 clips', '0 films', '1 class', '101 classes']
