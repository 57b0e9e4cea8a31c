"""The table that `evaluate` and `fuse` print."""

from vidcls.text.names import readable_lines

_CLASSES_SHOWN = 20


def table(result: dict) -> str:
    """A text with a line for each value, and a line for each class if there are few classes. Rates are in per cent."""
    lines = []
    for name, value in result.items():
        if name == 'class_accuracy':
            continue
        rate = isinstance(value, float) and name != 'loss'
        lines.append(f'{name:22} {100 * value:.2f} %' if rate else f'{name:22} {_plain(value)}')
    classes = result['class_accuracy']
    if len(classes) <= _CLASSES_SHOWN:
        lines += [
            f'{label:22} {100 * hits / clips:.2f} %, {hits} of {clips}' for label, (hits, clips) in classes.items()
        ]
    return readable_lines('\n'.join(lines))


def _plain(value) -> str:
    if value is None:
        return 'not finite'
    if isinstance(value, list):
        return ', '.join(map(str, value))
    return f'{value:.4f}' if isinstance(value, float) else str(value)
