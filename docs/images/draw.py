"""The pictures of README.md and docs/, from what `make demo` left in runs/demo.

    make demo setup-dev && .venv/bin/python -m docs.images.draw

demo.png       frames of the demo's clips, and what its network says of them
explained.png  what the network looked at in one clip
report.png     the top of the page of the evaluation, as Chromium shows it
"""

import subprocess
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vidcls.data import video
from vidcls.predict import Classifier

DEMO = Path('runs/demo')
FOLDER = Path(__file__).parent
CLASSES = ('left', 'right', 'clockwise', 'counter_clockwise')
SIDE, GAP, TEXT = 88, 4, 250  # pixels


def main() -> None:
    draw_labels(FOLDER / 'demo.png')
    draw_strip(FOLDER / 'explained.png')
    draw_page(FOLDER / 'report.png')


def draw_strip(path: Path) -> None:
    strip = next((DEMO / 'pictures').glob('clockwise_00000-clockwise-*.png'))
    picture = Image.open(strip).convert('RGB')
    picture.resize((700, round(700 * picture.height / picture.width))).save(path, optimize=True)


def draw_page(path: Path) -> None:
    """Needs chromium."""
    page = next((DEMO / 'timesformer' / 'eval').glob('*-test-*.html')).resolve()
    options = [
        '--headless',
        '--no-sandbox',
        '--hide-scrollbars',
        '--virtual-time-budget=8000',
        '--window-size=1160,1900',
    ]
    subprocess.run(['chromium', *options, f'--screenshot={path}', page.as_uri()], check=True, stderr=subprocess.DEVNULL)
    Image.open(path).convert('P', palette=Image.Palette.ADAPTIVE, colors=64).save(path, optimize=True)


def draw_labels(path: Path) -> None:
    classifier = Classifier.load(DEMO / 'timesformer')
    font = ImageFont.load_default(15)
    picture = Image.new('RGB', (8 * (SIDE + GAP) + TEXT, len(CLASSES) * (SIDE + GAP) - GAP), 'white')
    draw = ImageDraw.Draw(picture)
    for row, name in enumerate(CLASSES):
        video_path = DEMO / 'motion_videos' / name / f'{name}_00000.mp4'
        top = row * (SIDE + GAP)
        for column, frame in enumerate(video.read_frames(video_path, range(8))):
            shown = Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            picture.paste(shown, (column * (SIDE + GAP), top))
        for line, (label, probability) in enumerate(classifier.classify(video_path, top_k=3)):
            text = f'{100 * probability:5.1f} %  {label}'
            draw.text((8 * (SIDE + GAP) + 12, top + 14 + 20 * line), text, 'black' if line == 0 else 'gray', font)
    picture.save(path, optimize=True)


if __name__ == '__main__':
    main()
