"""How programs end: a line and the exit code 2 for what a user can mend."""

import pytest

from aw_keras.command import one_line_errors, refuse


@pytest.mark.parametrize("error", [ImportError, FileNotFoundError, ValueError])
def test_errors_of_users_are_a_line(error, capsys):
    with pytest.raises(SystemExit, match="^program: no file$") as end:
        with one_line_errors("program"):
            raise error("no\n  file")
    assert end.value.code == 2
    assert capsys.readouterr().err == "program: no file\n"


def test_a_line_is_not_a_page(capsys):
    with pytest.raises(SystemExit):
        refuse("program", "layer " * 1000)
    assert len(capsys.readouterr().err) < 600


def test_interrupted():
    with pytest.raises(SystemExit) as end, one_line_errors("program"):
        raise KeyboardInterrupt
    assert end.value.code == 130


def test_other_errors_are_ours():
    with pytest.raises(ZeroDivisionError), one_line_errors("program"):
        raise ZeroDivisionError
