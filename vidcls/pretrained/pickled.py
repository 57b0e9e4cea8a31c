"""Reads pickles as numbers, texts, bytes, lists, tuples, dictionaries and records, without Python's unpickler.

The opcodes are read one after another; `pickletools` reads their arguments. Nothing that a file names is imported or
called. A name is only a key of the table that the caller passes (see `vidcls.pretrained.admitted`), and an unknown
opcode or name is an error. Nothing here is recursive, so that deep nesting does no harm.
"""

import dataclasses
import pickletools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from vidcls.pretrained.plain import refuse, whole

STEPS = 500_000  # limit on opcodes and copied elements; a checkpoint of ResNet-152 with its optimizer takes 50,000
LINE = 200  # limit on the characters of a number or a name, in the protocols that write them as lines
OPCODES = {opcode.code.encode('latin1'): opcode for opcode in pickletools.opcodes}
VALUES = {
    'INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'FLOAT', 'BINFLOAT', 'STRING', 'BINSTRING', 'SHORT_BINSTRING',
    'UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8',
}  # fmt: skip  # opcodes that put their argument on the stack
EMPTY: dict[str, Callable[[], Any]] = {
    'NONE': lambda: None, 'NEWTRUE': lambda: True, 'NEWFALSE': lambda: False,
    'EMPTY_LIST': list, 'EMPTY_DICT': dict, 'EMPTY_TUPLE': tuple,
}  # fmt: skip

TO_MARK = ('TUPLE', 'LIST', 'DICT', 'APPENDS', 'SETITEMS')  # opcodes that take everything above the last MARK
# How many values other opcodes take from the stack.
TAKEN = {
    'STOP': 1, 'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3, 'APPEND': 1, 'SETITEM': 2, 'STACK_GLOBAL': 2, 'REDUCE': 2,
    'NEWOBJ': 2, 'BUILD': 2, 'BINPERSID': 1,
}  # fmt: skip
MEMO = ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE', 'GET', 'BINGET', 'LONG_BINGET')
ADMITTED = {'PROTO', 'FRAME', 'MARK', 'GLOBAL', *VALUES, *EMPTY, *TO_MARK, *TAKEN, *MEMO}


@dataclasses.dataclass(frozen=True, eq=False)
class Name:
    """A name in the pickle that is also in the table.

    `meaning` is the name's value in the table, which is a function of ours if the name may be called.
    """

    meaning: Any


class Record:
    """A value made by a function of the table.

    If the pickle gives the value a state afterwards, `build` receives it.
    """

    def build(self, walk: 'Walk', state: Any) -> None:
        refuse('it gives a state to what has none')


class Walk:
    """Reads one pickle.

    Args:
      file: the open file, at the beginning of the pickle; after `result` it is at the end of the pickle.
      size: the size of the file in bytes.
      admitted: the table of names: (module, name) -> meaning. Where the pickle calls a name, its meaning is called with
        the `Walk` and the pickle's arguments.
      persistent: a function that makes a record from a reference to something outside the pickle. With None, such
        references are refused.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: int,
        admitted: Mapping[tuple[str, str], Any],
        persistent: Callable[[Any], Record] | None = None,
    ):
        self.file, self.size, self.admitted, self.persistent = file, size, admitted, persistent
        self.left, self.recoded, self.longest = STEPS, 0, LINE

    def result(self) -> Any:
        """Returns the object that the pickle describes.

        Raises:
          UserError: the pickle has an opcode or a name that is not admitted, or takes too many steps or bytes.
          IndexError, KeyError, TypeError, ValueError: the pickle is broken.
        """
        stack: list[Any] = []
        below: list[list[Any]] = []
        memo: dict[int, Any] = {}
        items: list[Any] = []
        for opcode, value in self._opcodes():
            if opcode in TO_MARK:
                items, stack = stack, below.pop() if below else refuse('it takes what is not there')
            elif count := TAKEN.get(opcode):
                items = stack[-count:] if len(stack) >= count else refuse('it takes what is not there')
                del stack[-count:]
            match opcode:
                case 'STOP':
                    return items[0]
                case 'MARK':
                    below.append(stack)
                    stack = []
                case 'PUT' | 'BINPUT' | 'LONG_BINPUT' | 'MEMOIZE':
                    memo[len(memo) if value is None else whole(value)] = (
                        stack[-1] if stack else refuse('nothing to keep')
                    )
                case 'GET' | 'BINGET' | 'LONG_BINGET':
                    stack.append(memo[value] if value in memo else refuse('it refers to what it has not kept'))
                case 'LIST':
                    stack.append(items)
                case 'TUPLE' | 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
                    stack.append(tuple(items))
                case 'DICT':
                    stack.append(named({}, items))
                case 'APPEND' | 'APPENDS':
                    stack[-1].extend(items) if type(stack[-1]) is list else refuse('it appends to what is no list')
                case 'SETITEM' | 'SETITEMS':
                    named(stack[-1], items)
                case 'GLOBAL':
                    stack.append(self._name(*value.split(' ', 1)))
                case 'STACK_GLOBAL':
                    stack.append(self._name(*items))
                case 'REDUCE' | 'NEWOBJ':
                    stack.append(self._call(*items))
                case 'BUILD':
                    stack.append(self._build(*items))
                case 'BINPERSID':
                    stack.append(self.persistent(*items) if self.persistent else refuse('it refers to what is outside'))
                case _ if opcode in VALUES:
                    stack.append(value)
                case _ if opcode in EMPTY:
                    stack.append(EMPTY[opcode]())
        raise AssertionError('the opcodes end with STOP or an error')

    def spend(self, steps: int) -> None:
        """Counts steps and raises UserError if there are too many: a few bytes of a file can demand many steps."""
        self.left -= steps
        if self.left < 0:
            refuse(f'more than {STEPS:,} steps to read it, many times what weights take')

    def recode(self, size: int) -> None:
        """Counts bytes that were made from texts; raises UserError if they are more than the file has.

        A file can demand the same text again and again.
        """
        self.recoded += size
        if self.recoded > self.size:
            refuse('the same text many times over as bytes')

    def read(self, count: int) -> bytes:
        """Reads bytes for pickletools: `count` of them, but at most as many as are left in the file."""
        return self.file.read(min(count, self.size - self.file.tell()))

    def readline(self) -> bytes:
        """Reads a line for pickletools; raises UserError if it is too long or has no end."""
        line = self.file.readline(self.longest)
        return line if line.endswith(b'\n') else refuse(f'a name or number of over {LINE} characters or without end')

    def _opcodes(self) -> Iterator[tuple[str, Any]]:
        """Yields the name and the argument of each opcode; raises UserError at an opcode that is not admitted."""
        source: Any = self  # pickletools uses only a file's `read` and `readline`
        while True:
            self.spend(1)
            code = self.file.read(1) or refuse('it broke off')
            opcode = OPCODES.get(code)
            if opcode is None or opcode.name not in ADMITTED:
                refuse(f'{opcode.name if opcode else ascii(code)} is not admitted in a file of weights')
            self.longest = -1 if opcode.name in ('STRING', 'UNICODE') else LINE  # these two may contain whole arrays
            if opcode.name == 'STRING':  # pickletools of Python 3.11 refuses bytes above 127 here
                text: Any = pickletools.read_stringnl(source, decode=False)  # bytes, without decoding
                yield opcode.name, text.decode('unicode_escape')
            else:
                yield opcode.name, opcode.arg.reader(source) if opcode.arg else None

    def _name(self, module: Any, name: Any) -> Name:
        if type(module) is not str or type(name) is not str:
            refuse('a name that is no text')
        key = module.replace('numpy._core', 'numpy.core').replace('__builtin__', 'builtins'), name
        if key not in self.admitted:
            refuse(f'{ascii(f"{module}.{name}"[:LINE])[1:-1]} is not admitted in a file of weights')
        return Name(self.admitted[key])

    def _call(self, name: Any, arguments: Any) -> Any:
        if type(name) is not Name or not callable(name.meaning) or type(arguments) is not tuple:
            refuse('it calls what can not be called')
        return name.meaning(self, *arguments)

    def _build(self, target: Any, state: Any) -> Any:
        if isinstance(target, Record):
            target.build(self, state)
        elif type(target) is not dict:  # the attributes of an OrderedDict, such as `_metadata`, are left out
            refuse('it gives a state to what has none')
        return target


def named(target: Any, items: list[Any]) -> dict:
    """Puts `items` into the dictionary `target` and returns it. The items are alternately a name and its value.

    Names must be texts, bytes or whole numbers of at most 62 bits. Nested tuples could take for ever to hash, and
    longer numbers could be chosen so that their hashes collide.

    Raises:
      UserError: `target` is not a dictionary, or a name is of another type.
    """
    if type(target) is not dict or len(items) % 2:
        refuse('it puts names into what is no dictionary')
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, bytes) and not (type(key) is int and abs(key) < 1 << 62):
            refuse(f'a {type(key).__name__} as a name')
        target[key] = value
    return target
