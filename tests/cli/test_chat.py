"""``glassformer chat``: lines from a pipe, a talk at a keyboard, transcripts, commands, and what cannot be."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from chat_templates import LLAMA_2
from chatting import talker, transcript
from glassformer.cli.chat_commands import COMMANDS, Table, obey
from glassformer.errors import ConfigError
from glassformer.pipeline import load
from glassformer.tokenizers.chat import BUILT_IN, ChatTemplate

FEW = ("--max-new-tokens", 12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talker") / "model"
    talker().save(folder)
    return folder


def test_each_line_of_a_pipe_is_a_question_and_its_answer_goes_to_standard_output(command, folder):
    done = command(
        "chat", folder, *FEW, "--system", "Be kind.", "--seed", 3, stdin="\ufeffHello\r\n\n  \n/undo ünï\n".encode()
    )
    conversation = load(folder).converse(system="Be kind.", max_new_tokens=12, seed=3)
    wanted = ["".join(conversation.say(line)) for line in ("Hello", "/undo ünï")]
    assert done.out == "".join(f"{answer}\n" for answer in wanted)
    assert done.code == 0


def test_json_gives_a_line_for_each_turn(command, folder):
    done = command("chat", folder, *FEW, "--json", "--greedy", stdin=b"Hello\nBye\n")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["user"] for row in rows] == ["Hello", "Bye"]
    conversation = load(folder).converse(max_new_tokens=12, temperature=0)
    assert [row["assistant"] for row in rows] == ["".join(conversation.say(line)) for line in ("Hello", "Bye")]
    assert all(row["finish"] in ("eos", "length") and row["tokens"] <= 12 for row in rows)
    assert rows[0]["prompt_tokens"] < rows[1]["prompt_tokens"]


def test_a_transcript_is_saved_after_every_turn_and_gone_on_from(command, folder, tmp_path):
    file, whole = tmp_path / "talk.json", tmp_path / "whole.json"
    for line in (b"One\n", b"Two\n"):
        done = command("chat", folder, *FEW, "--transcript", file, "--system", "Be kind.", stdin=line)
    assert f"going on from the 3 messages of {file}" in done.err
    command("chat", folder, *FEW, "--transcript", whole, "--system", "Be kind.", stdin=b"One\nTwo\n")
    assert transcript(file) == transcript(whole)
    assert [message["role"] for message in transcript(file)] == ["system", *["user", "assistant"] * 2]
    content = json.loads(file.read_text())
    assert content["model"] == str(folder)
    assert content["settings"] == {"max_new_tokens": 12, "seed": 0}
    command("chat", folder, *FEW, "--transcript", file, "--system", "Be brief.", stdin=b"Three\n")
    assert transcript(file)[0]["content"] == "Be brief."
    assert len(transcript(file)) == 7


def test_the_system_prompt_and_the_template_may_be_files(command, folder, tmp_path):
    (tmp_path / "system.txt").write_text("\ufeffBe kïnd.\n", encoding="utf-8")
    (tmp_path / "llama.jinja").write_text(LLAMA_2)
    file = tmp_path / "talk.json"
    flags = ("--system", f"@{tmp_path / 'system.txt'}", "--template", tmp_path / "llama.jinja", "--transcript", file)
    assert command("chat", folder, *FEW, *flags, stdin=b"Hello\n").code == 0
    assert transcript(file)[0] == {"role": "system", "content": "Be kïnd."}
    plain = command("chat", folder, *FEW, "--template", "plain", stdin=b"Hello\n").out
    pipe = talker()
    template = ChatTemplate(BUILT_IN["plain"], pipe.tokenizer)
    assert plain == "".join(pipe.converse(template=template, max_new_tokens=12).say("Hello")) + "\n"


def test_a_model_without_a_template_says_in_which_form_it_is_asked(command, tmp_path):
    talker(template=None).save(tmp_path / "model")
    done = command("chat", tmp_path / "model", *FEW, stdin=b"Hello\n")
    assert "the model has no chat template: it is asked in the form chatml" in done.err
    assert "template" not in done.out


WRONG_TEMPLATES = [
    ("{% for m in messages %}\n{{ m.content }\n{% endfor %}", ":2: the chat template fails: unexpected '}'"),
    ("one\ntwo {{ messages[0].content.nothing.more }}", ":2: the chat template fails: 'str object' has no attribute"),
    ("\n\n{{ raise_exception('only cats') }}", ":3: the chat template refuses this conversation: only cats"),
    ("{{ ''.__class__ }}", ":1: the chat template fails: access to attribute '__class__' of 'str' object is unsafe"),
]


@pytest.mark.parametrize(("source", "said"), WRONG_TEMPLATES)
def test_a_template_that_fails_is_named_with_its_line_and_what_jinja_says(command, folder, tmp_path, source, said):
    file = tmp_path / "mine.jinja"
    file.write_text(source)
    done = command("chat", folder, "--template", file, stdin=b"Hello\n")
    assert (done.code, done.out) == (1, "")
    assert done.sentence.startswith(f"{file}{said}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no\n", ":1: is not valid JSON (Expecting value), so it is no transcript"),
        (b'{"messages": [}', ":1: is not valid JSON (Expecting value), so it is no transcript"),
        (b'{"talk": []}', ': expected JSON with "messages", a list of messages with role and content'),
        (
            b'{"messages": [{"role": "usr", "content": "x"}]}',
            ": messages[0]: role 'usr' is unknown (did you mean 'user'?)",
        ),
        (b'[{"role": "user", "content": 7}]', ": messages[0]: content is int"),
        (b"\xff\xfe", ": is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_transcript_is_one_sentence_and_stays_as_it_is(command, folder, tmp_path, content, said):
    file = tmp_path / "talk.json"
    file.write_bytes(content)
    done = command("chat", folder, "--transcript", file, stdin=b"Hello\n")
    assert (done.code, done.out) == (1, "")
    assert done.sentence.startswith(f"{file}{said}")
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (
            ("--system", "@nowhere.txt"),
            1,
            "nowhere.txt: cannot be read (No such file or directory), so there is no system",
        ),
        (
            ("--template", "nowhere"),
            2,
            "--template nowhere: cannot be read (No such file or directory); expected a file",
        ),
        (("--temperature", -1), 2, "generation: temperature=-1.0 is out of range"),
        (("--max-new-tokens", 0), 2, "invalid value for '--max-new-tokens'"),
    ],
)
def test_wrong_flags_are_one_sentence(command, folder, flags, code, said):
    done = command("chat", folder, *flags, stdin=b"Hello\n")
    assert (done.code, done.out) == (code, "")
    assert said in done.sentence
    assert "Traceback" not in done.err


def test_a_question_that_is_too_long_ends_a_pipe_and_a_pipe_that_is_no_text_too(command, folder):
    done = command("chat", folder, stdin=b"x" * 300)
    assert done.sentence.startswith("the last message, with what always stands before it, has 3")
    assert command("chat", folder, stdin=b"Hi\nab\xff\n").sentence.startswith(
        "standard input, line 2: byte 2 is not UTF-8"
    )


def table(folder, path=None):
    return Table(load(folder).converse(max_new_tokens=6), "model", path)


def test_commands_do_what_their_help_says(folder, tmp_path, capsys):
    file = tmp_path / "talk.json"
    seat = table(folder, file)
    say = seat.conversation.say
    assert obey(seat, "/system Be kind.") is None
    obey(seat, "/system")
    assert capsys.readouterr().out == "Be kind.\n"
    first = "".join(say("Hello"))
    obey(seat, f"/save {tmp_path / 'other.json'}")
    assert transcript(tmp_path / "other.json") == seat.conversation.messages
    question = obey(seat, "/retry")
    assert question == "Hello"
    assert seat.conversation.values["seed"] == 1
    assert "".join(say(question)) != first
    obey(seat, "/undo")
    assert transcript(file) == [{"role": "system", "content": "Be kind."}]
    obey(seat, f"/load {tmp_path / 'other.json'}")
    assert seat.conversation.messages[-1]["content"] == first
    obey(seat, "/set temperature=0.5 max-new-tokens=3")
    assert seat.conversation.values == {"max_new_tokens": 3, "seed": 1, "temperature": 0.5}
    capsys.readouterr()
    obey(seat, "/tokens")
    shown = capsys.readouterr().out
    assert shown.startswith("<|im_start|>·s·y·s·t·e·m·\\n·B·e·␣·k")
    assert shown.endswith(f"{len(seat.conversation.ids())} of 160 tokens\n")
    obey(seat, "/stats")
    assert "tokens before the answer" in capsys.readouterr().out
    obey(seat, "/reset")
    assert seat.conversation.messages == [{"role": "system", "content": "Be kind."}]
    obey(seat, "/help")
    shown = capsys.readouterr().out
    assert all(f"/{name}" in shown for name in COMMANDS)
    with pytest.raises(EOFError):
        obey(seat, "/exit")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/quit now", "/quit is no command"),
        ("/undoo", "/undoo is no command (did you mean 'undo'?); /help lists them"),
        ("/save", "/save FILE: Write the conversation as JSON."),
        ("/set temperature", "/set temperature: expected NAME=VALUE, for example /set temperature=0.7"),
        ("/set heat=9", "a conversation has no setting 'heat'"),
        ("/set temperature=hot", "temperature"),
    ],
)
def test_a_command_that_cannot_be_obeyed_is_one_sentence(folder, line, said):
    with pytest.raises(ConfigError) as error:
        obey(table(folder), line)
    assert said in str(error.value)


class Keyboard:
    """A real terminal with ``glassformer chat`` at its other end."""

    def __init__(self, *arguments: object) -> None:
        self.pid, self.handle = pty.fork()
        if self.pid == 0:  # pragma: no cover
            os.environ.update(TERM="dumb", OMP_NUM_THREADS="1", COLUMNS="80")
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.execv(sys.executable, [sys.executable, "-m", "glassformer", "chat", *map(str, arguments)])
        self.seen = ""

    def until(self, text: str, seconds: float = 60, *, patient: bool = True) -> str:
        end, start = time.monotonic() + seconds, len(self.seen)
        while text not in self.seen[start:]:
            if time.monotonic() >= end:
                assert not patient, self.seen
                break
            if select.select([self.handle], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.handle, 65536).decode(errors="replace")
                except OSError:  # the other end is gone
                    break
        return self.seen[start:]

    def type(self, text: str) -> None:
        os.write(self.handle, text.encode())

    def interrupt(self, answer: str, presses: int = 20) -> None:
        """Press Ctrl-C until ``answer`` is read: one that comes before the prompt waits for a key is lost in Python."""
        for _ in range(presses):
            self.type("\x03")
            if answer in self.until("\n> ", 3, patient=False):
                return
        raise AssertionError(self.seen)

    def leave(self) -> int:
        self.type("\x04")
        self.until("\0", 60)
        os.close(self.handle)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_at_a_keyboard_answers_can_be_stopped_mistakes_are_told_and_ctrl_d_leaves(folder, tmp_path):
    file = tmp_path / "talk.json"
    model = tmp_path / "model"
    pipe = talker(max_len=9000)
    pipe.save(model)
    keys = Keyboard(model, "--transcript", file, "--seed", 1, "--max-new-tokens", 8)
    keys.until("> ")
    keys.type("Hello\n")
    keys.until("\n> ")
    assert len(transcript(file)) == 2
    keys.type("/nothing\n")
    assert "glassformer: /nothing is no command" in keys.until("\n> ")
    keys.interrupt("(Ctrl-D or /exit leaves)")
    keys.type("/set max_new_tokens=8000 min_new_tokens=8000\n")
    keys.until("\n> ")
    keys.type("Tell me a lot\n")
    keys.until("a lot")
    time.sleep(2)
    keys.type("\x03")
    assert "(stopped: what was said is kept)" in keys.until("\n> ")
    assert "Traceback" not in keys.seen
    assert keys.leave() == 0
    assert transcript(file)[2]["content"] == "Tell me a lot"
    assert transcript(file)[3]["content"]


@pytest.mark.slow
def test_ctrl_c_in_a_pipe_has_the_exit_code_of_shells_and_what_was_said_is_saved(folder, tmp_path):
    model, file = tmp_path / "model", tmp_path / "talk.json"
    talker(max_len=9000).save(model)
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "glassformer",
            "chat",
            str(model),
            "--transcript",
            str(file),
            "--max-new-tokens",
            "8500",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(b"Hello\n" * 50)
    child.stdin.flush()
    child.stdout.readline()  # an answer has been given
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"Traceback" not in err
    assert transcript(file)
