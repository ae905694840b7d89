"""The screen of a run: plain lines in a pipe, a bar with rate and time left on a terminal, and the loss as a picture."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys

import pytest

from glassformer.training import screen_for
from glassformer.training.decide import Choice
from glassformer.training.plot import BARS, save_png, sparkline, terminal_plot
from glassformer.training.screen import PlainScreen, TerminalScreen, shown
from running import QUICK, SENTENCES


def row(step: int) -> dict:
    return {"step": step, "loss": 2.5, "tok_per_s": 12345.6, "seconds_left": 75.0}


def test_a_pipe_gets_a_line_now_and_then_and_the_last_one(monkeypatch):
    clock = iter([10.0, 11.0, 16.0, 16.1])
    monkeypatch.setattr("glassformer.training.screen.time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    screen = screen_for(stream)
    assert type(screen) is PlainScreen
    screen.begin(0, 2000)
    for step in (1, 2, 3, 2000):
        screen.step(row(step))
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1/2,000", "3/2,000", "2,000/2,000"]
    assert re.fullmatch(r"step      1/2,000  loss 2.5000  12,346 tokens/s  1:15 left  [\d,]+ MB", lines[0])


def test_evaluations_samples_and_choices_are_lines():
    stream = io.StringIO()
    screen = PlainScreen(stream)
    score = {"step": 1200, "val_loss": 1.5, "perplexity": 4.48, "bpb": 2.1}
    screen.evaluation({**score, "best": True})
    screen.evaluation({**score, "best": False})
    screen.sample(7, "two\nlines")
    screen.choices([Choice("loop.steps", 12345, "why"), Choice("model.mlp", "relu", "because")])
    screen.choices([])
    screen.end()
    assert stream.getvalue().splitlines() == [
        "step  1,200  validation loss 1.5000  perplexity 4.48  2.100 bits/byte  best so far",
        "step  1,200  validation loss 1.5000  perplexity 4.48  2.100 bits/byte",
        "sample after step 7: 'two\\nlines'",
        "  loop.steps  12,345  why",
        "  model.mlp   relu    because",
    ]


@pytest.mark.parametrize(("value", "text"), [(12345, "12,345"), (True, "True"), (0.5, "0.5"), ("bpe", "bpe")])
def test_values_are_shown_as_people_write_them(value, text):
    assert shown(value) == text


def on_terminal(*arguments: str) -> tuple[int, str]:
    """Run the command with a terminal of 100 columns as its error stream; exit code and what the terminal was sent."""
    terminal, end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    command = [sys.executable, "-m", "glassformer", *arguments]
    with subprocess.Popen(command, stdin=end, stdout=subprocess.DEVNULL, stderr=end, env=environment) as child:
        os.close(end)
        sent = b""
        while True:
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # the child has closed its end
                break
            if not piece:
                break
            sent += piece
    os.close(terminal)
    return child.returncode, sent.decode()


def test_a_terminal_gets_a_bar_with_rate_and_time_left(tmp_path):
    (tmp_path / "words.txt").write_text(SENTENCES * 40)
    run = tmp_path / "[run]"  # as a name, not as markup
    code, sent = on_terminal("train", str(tmp_path / "words.txt"), *QUICK, "--steps", "150", "--out-dir", str(run))
    assert code == 0, sent
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent)
    assert "━" in text
    assert re.search(r"\d+/150 +loss \d\.\d+ +[\d,]+ tokens/s · [\d,]+ MB +(\d+:\d\d:\d\d|-:--:--)", text), text
    assert re.search(r"150/150 +loss", text)
    assert "validation loss" in text
    assert f"into {run}" in text
    assert any(bar in text for bar in BARS)


def test_a_terminal_screen_may_end_before_it_begins(capsys):
    screen = TerminalScreen()
    screen.note("[bold]text[/bold]")
    screen.end()
    assert capsys.readouterr().err.splitlines()[0] == "[bold]text[/bold]"


def rows() -> list[dict]:
    return [{"step": step, "loss": 3 - step / 10} for step in range(1, 9)] + [{"step": 8, "val_loss": 2.5}]


def test_the_picture_is_a_png_of_some_size(tmp_path):
    for name, content in (("both", rows()), ("training", rows()[:-1]), ("one", rows()[:1])):
        path = tmp_path / "plots" / f"{name}.png"
        save_png(content, path, "a $run_1^$ <x>")
        image = path.read_bytes()
        assert image.startswith(b"\x89PNG\r\n\x1a\n")
        assert (int.from_bytes(image[16:20], "big"), int.from_bytes(image[20:24], "big")) == (880, 495)
        assert len(image) > 5000


def test_curves_as_text_fall_from_high_bars_to_low_ones():
    assert sparkline([]) == ""
    assert sparkline([(1, 2.0)]) == BARS[0]
    assert sparkline([(step, 8 - step) for step in range(1, 9)]) == BARS[::-1]
    assert len(sparkline([(step, step) for step in range(1000)])) == 60
    training, validation = terminal_plot(rows()).splitlines()
    assert training.split() == ["training", "2.9000", BARS[::-1], "2.2000"]
    assert validation.split() == ["validation", "2.5000", BARS[0], "2.5000"]


def test_a_piped_run_prints_no_control_characters(command, tmp_path):
    (tmp_path / "words.txt").write_text(SENTENCES * 40)
    done = command("train", tmp_path / "words.txt", *QUICK, "--out-dir", tmp_path / "run")
    assert "\x1b" not in done.err + done.out
    assert "\r" not in done.err + done.out
    assert json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])["step"] == 1
