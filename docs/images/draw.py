"""Draws docs/images/demo.png: frames of the demo's clips, and what its network says of them.

make demo setup-dev && .venv/bin/python -m docs.images.draw
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vidcls.data import video
from vidcls.predict import Classifier

DEMO = Path('runs/demo')
CLASSES = ('left', 'right', 'clockwise', 'counter_clockwise')
SIDE, GAP, TEXT = 88, 4, 250  # pixels


def main() -> None:
    classifier = Classifier.load(DEMO / 'timesformer')
    font = ImageFont.load_default(15)
    picture = Image.new('RGB', (8 * (SIDE + GAP) + TEXT, len(CLASSES) * (SIDE + GAP) - GAP), 'white')
    draw = ImageDraw.Draw(picture)
    for row, name in enumerate(CLASSES):
        path = DEMO / 'motion_videos' / name / f'{name}_00000.mp4'
        top = row * (SIDE + GAP)
        for column, frame in enumerate(video.read_frames(path, range(8))):
            shown = Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            picture.paste(shown, (column * (SIDE + GAP), top))
        for line, (label, probability) in enumerate(classifier.classify(path, top_k=3)):
            text = f'{100 * probability:5.1f} %  {label}'
            draw.text((8 * (SIDE + GAP) + 12, top + 14 + 20 * line), text, 'black' if line == 0 else 'gray', font)
    picture.save(Path(__file__).with_name('demo.png'), optimize=True)


if __name__ == '__main__':
    main()
