"""The shell of pages: what is in the file, and that no name in it is taken for markup or for code."""

import re

import pytest

from vidcls.report import page, theme

HOSTILE = '</script><script>alert(1)</script>\x1b[2J\u202eeman <b>&amp; naïve 跳'


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    figure = theme.figure('x (m)', 'y (s)')
    figure.add_scatter(x=[1, 2], y=[3, 4], text=[theme.name(HOSTILE)] * 2, name=theme.name(HOSTILE))
    path = tmp_path_factory.mktemp('page') / 'page.html'
    card = page.Card(HOSTILE, b'\xff\xd8\xff', HOSTILE, [(HOSTILE, HOSTILE)], [(HOSTILE, 0.5)], HOSTILE)
    blocks = [
        page.text(HOSTILE), page.warning(HOSTILE), page.tiles([(HOSTILE, HOSTILE, HOSTILE)]), page.facts({HOSTILE: HOSTILE}),
        page.table([HOSTILE], [[HOSTILE]], HOSTILE, [0]), page.plot(figure, HOSTILE, HOSTILE), page.cards([card]),
        page.picture(b'\x89PNG', HOSTILE, HOSTILE), page.fold(HOSTILE, page.heading(HOSTILE)),
    ]  # fmt: skip
    page.write(path, HOSTILE, HOSTILE, [page.Section(HOSTILE, blocks)])
    return path


def test_no_name_is_markup_or_code(written):
    text = written.read_text()
    assert text.count('<script>') == text.count('</script>') == 3  # plotly.js, the one plot, the page's own
    assert 'alert(1)</' not in text and '\x1b' not in text and '\u202e' not in text
    assert '&lt;/script&gt;&lt;script&gt;alert(1)' in text and 'naïve 跳' in text


def test_nothing_is_asked_of_the_network(written):
    shell = re.sub(r'<script>.*?</script>', '', written.read_text(), flags=re.DOTALL)
    assert "default-src 'none'" in shell
    assert not re.search(r'(src|href)="(?!data:|#)|url\(|@import|https?:', shell)


def test_it_is_written_through_no_link(written, tmp_path):
    (tmp_path / 'theirs').write_text('kept')
    (tmp_path / '.partial-page.html').symlink_to(tmp_path / 'theirs')
    page.write(tmp_path / 'page.html', 'a', 'b', [])
    assert (tmp_path / 'theirs').read_text() == 'kept' and [*tmp_path.glob('.*')] == []
    assert (tmp_path / 'page.html').stat().st_size < 20_000  # without a plot there is no plotly.js


def test_names_for_plots_are_short_and_plain():
    assert (
        theme.name('<b>"\n', 0) == '&lt;b&gt;"\\n'
        and theme.name('abcdef', 4) == 'abc…'
        and theme.name('abcd', 4) == 'abcd'
    )
