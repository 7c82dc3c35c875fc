"Guards for satseg.core: errors, commands, tables."
import csv
import pickle

import numpy as np
import pytest

from satseg.core.commands import _argument_parser, number, _run_command
from satseg.core.errors import BadInput, MissingPackage, exit_status, need, preview
from satseg.core.tables import format_table, html_table, markdown_table, write_csv


def test_an_error_travels_with_its_fields():
    e = pickle.loads(pickle.dumps(BadInput(where='a.tif', expected='3 bands', got='4', hint='pick some')))
    assert str(e) == 'a.tif: expected 3 bands, got 4: pick some' and (e.expected, e.got, e.hint) == ('3 bands', '4', 'pick some')
    assert str(e.at('x.zip')) == f'x.zip: {e}' and isinstance(MissingPackage('a').at('b'), MissingPackage)


def test_shown_is_short():
    nested = []
    for _ in range(100): nested = [nested, nested]
    for o in (nested, 'x'*10**6, 10**9999, b'x'*10**6, np.zeros(10**6), {1: nested}, '\n'*99): assert len(preview(o)) < 130 and '\n' not in preview(o)


def command(
    files:list, # Some files
    min_area:number=None, # Pixels, 100% of them
    big_words:list=None, # Several
    dry_run:bool=False, # Nothing is written
):
    "Do it."
    if min_area is not None and isinstance(min_area, str): raise BadInput(expected='a number', got=min_area)
    print(files, min_area, big_words, dry_run)


def test_options_have_hyphens(capsys):
    text = _argument_parser(command, 'x').format_help()
    assert '--min-area' in text and '--big-words' in text and '_area' not in text.replace('MIN_AREA', '') and '100% of them' in text
    for o in ('--min-area', '--min_area'): _run_command(command, ['a', 'b_c', o, '7', '--big_words', 'k_1=2', '--dry-run'])
    _run_command(command, ['a', '--big-words', 'x', '--big-words', 'y'])
    assert capsys.readouterr().out == "['a', 'b_c'] 7.0 ['k_1=2'] True\n"*2 + "['a'] None ['x', 'y'] False\n"


@pytest.mark.parametrize('words,text', [(['a', '--min-area', 'big'], 'satseg: expected a number, got big\n'), ([], 'the following arguments are required'),
                                        (['a', '--no-such'], 'unrecognized arguments')])
def test_slips_are_status_2(words, text, capsys):
    with pytest.raises(SystemExit) as e: _run_command(command, words, 'x')
    assert e.value.code == 2 and text in capsys.readouterr().err


@pytest.mark.parametrize('error,status', [(BadInput('a\nb'), 2), (MemoryError(), 2), (FileNotFoundError(2, 'No such file', 'f'), 2), (KeyboardInterrupt(), 130)])
def test_exit_status(error, status, capsys):
    with pytest.raises(SystemExit) as e, exit_status(): raise error
    text = capsys.readouterr().err
    assert e.value.code == status and text.startswith('satseg: ') and text.count('\n') == 1
    with pytest.raises(ZeroDivisionError), exit_status(): 1/0


def test_a_missing_package_says_what_to_do():
    with pytest.raises(MissingPackage, match='pip install'): need('no_such_package', 'geo')


def test_tables_escape_and_keep_order(tmp_path):
    rows = [{'name': '<b>|', 'iou': .5, 'n': 1000}, {'name': 'chosen (chosen)', 'iou': None, 'n': 2}]
    assert html_table(rows).count('class="chosen"') == 1 and '&lt;b&gt;' in html_table(rows) and '<td>1,000</td>' in html_table(rows)
    assert [format_table([]), markdown_table([]), html_table([])] == ['']*3
    write_csv(tmp_path/'a.csv', rows)
    assert list(csv.reader((tmp_path/'a.csv').open())) == [['name', 'iou', 'n'], ['<b>|', '0.5', '1000'], ['chosen (chosen)', '', '2']]
    def broken():
        yield [1]
        raise ValueError('stop')
    with pytest.raises(ValueError): write_csv(tmp_path/'a.csv', broken(), ['x'])
    assert len((tmp_path/'a.csv').read_text().splitlines()) == 3 and [o.name for o in tmp_path.iterdir()] == ['a.csv']
    with pytest.raises(BadInput, match='make it first'): write_csv(tmp_path/'no'/'a.csv', rows)


def test_remarks_of_a_command_are_shown_whatever_pythonwarnings_says(capsys):
    import warnings
    from satseg.core.commands import _run_command
    from satseg.core.errors import Remark
    def say():
        "Say something."
        warnings.warn('folder: left out: 3 .txt in labels/', Remark)
        warnings.warn('hidden')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        _run_command(say, [])
    assert capsys.readouterr().err == 'satseg: folder: left out: 3 .txt in labels/\n'
