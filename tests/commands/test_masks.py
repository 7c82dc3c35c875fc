"""The command that checks a submission."""
import subprocess
import sys


def rows(path, header, *lines):
    path.write_text('\n'.join([header, *lines])+'\n', encoding='utf-8')
    return path


def cli(*args): return subprocess.run([sys.executable, '-W', 'error', '-m', 'satseg.masks', *map(str, args)], capture_output=True, text=True)


def test_command_line(tmp_path):
    good = rows(tmp_path/'good.csv', 'ImageId,EncodedPixels', 'a.jpg,1 3', 'b.jpg,')
    res = cli(good)
    assert (res.returncode, res.stderr, res.stdout)==(0, '', f'ok: {good}\n')
    bad = rows(tmp_path/'bad.csv', 'ImageId,EncodedPixels', 'a.jpg,1 3', 'a.jpg,3 1', 'b.jpg,7')
    res = cli(bad, '--kind', 'ships')
    assert res.returncode==2 and [o.split(': ')[1] for o in res.stdout.splitlines()]==['row 3', 'row 4']
    assert res.stderr==f'satseg: {bad}: expected a file that can be submitted, got 2 mistakes, listed above\n'
    assert cli(good, '--size', '2x1').returncode==2
    for args in ((tmp_path/'none.csv',), (tmp_path,), (good, '--kind', 'boats'), (good, '--size', '7x'), (good, '--ids', 'none')):
        res = cli(*args)
        assert res.returncode==2 and len(res.stderr.splitlines())==1 and 'Traceback' not in res.stderr, res.stderr
