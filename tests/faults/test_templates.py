"""Templates that mean harm: each is refused with one sentence, soon, without eating the machine or touching its files."""

from __future__ import annotations

import os
import resource
import time
from functools import cache
from pathlib import Path

import pytest

from glassformer.errors import TokenizerError
from glassformer.tokenizers import Tokenizer, train_tokenizer
from glassformer.tokenizers.chat import ChatTemplate
from glassformer.tokenizers.template_process import TemplateProcess

TALK = [{"role": "user", "content": "Hello"}]
MOST_SECONDS = 2.0  # that a template is given

LOOPS = [
    "{% for i in range(10**9) %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "{% for a in 'ab' * 999 %}{% for b in 'ab' * 999 %}{% for c in 'ab' * 999 %}{% endfor %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% for m in [messages] recursive %}{{ loop([m]) }}{% endfor %}",
    "{% set ns = namespace(x='a') %}{% for i in range(64) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='a') %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=3) %}{% for i in range(64) %}{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x > 1 }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}",
    "{{ range(99999) | map('string') | map('center', 99999) | join | length }}",
    "{% for i in lipsum(n=10000, max=100000) %}{% endfor %}",
    "{{ dict(a=1).items() | list | batch(10**9, 'x') | list }}",
    "{{ [1] | batch(10**10, 'x') | list }}",
    "{{ messages | slice(10**10) | list }}",
]
SIZES = [
    "{{ 'a' * 10**12 }}",
    "{{ 10**12 * 'a' }}",
    "{{ [0] * 10**12 }}",
    "{{ (0,) * 10**11 }}",
    "{{ 10 ** (10 ** 10) }}",
    "{{ 9 ** (9 ** 9) > 1 }}",
    "{{ 2 ** 300000000 % 7 }}",
    "{{ 'a' | center(10**11) }}",
    "{{ 'a'.ljust(10**11) }}",
    "{{ 'a'.zfill(10**11) }}",
    "{{ '\t'.expandtabs(10**11) }}",
    "{{ '%0100000000000d' % 1 }}",
    "{{ '%*d' % (10**9 * 2, 1) }}",
    "{{ '{:>100000000000}'.format(1) }}",
    "{{ '%.1000000000f' | format(1.0) }}",
    "{{ 'a' | indent(10**11) }}",
    "{{ ('a' * 10**8).replace('a', 'a' * 10**4) }}",
    "{{ ('a' * 10**8) | urlencode | length }}",
    "{{ ('a ' * 10**8) | wordwrap(1) }}",
    "{{ ('a' * 10**9).translate(dict()) }}",
    "{{ [1, 2] | tojson(indent=10**11) }}",
    "{{ strftime_now('%c' * 10**9) }}",
]
REACHES = [
    "{{ ''.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ '' | attr('__class__') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__init__.__globals__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.system('id') }}",
    "{{ self.__init__.__globals__ }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ messages.append(1) }}",
    "{% set ns = namespace(__class__=1) %}{{ ns.__class__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
    "{% extends '/etc/passwd' %}",
]
NESTINGS = [
    "{{ " + "(" * 100_000 + ")" * 100_000 + " }}",
    "{{ " + "[" * 5_000 + "]" * 5_000 + " }}",
    "{% if 1 %}" * 5_000,
]
HOSTILE = [*LOOPS, *SIZES, *REACHES, *NESTINGS]
DAILY = {*LOOPS[::4], *SIZES[::4], *REACHES, *NESTINGS}  # the others take as long, and are tried before a release


@pytest.fixture(scope="module")
def process():
    """One for all of them, so that each also stands for the one after it."""
    process = TemplateProcess(seconds=0.5)  # a third of what is usual: what is endless is endless sooner
    yield process
    process.end()


@cache
def tokenizer() -> Tokenizer:
    return train_tokenizer("bytes", [""])


def test_there_are_at_least_fifty():
    assert len(set(HOSTILE)) >= 50


@pytest.mark.parametrize(
    "source",
    [pytest.param(one, marks=() if one in DAILY else pytest.mark.slow, id=one[:50]) for one in HOSTILE],
)
def test_a_hostile_template_is_refused_in_one_sentence_soon_and_in_bounded_memory(source, process):
    template = ChatTemplate(source, tokenizer(), "hostile.jinja")
    template.process = process
    template.process.running()  # what it takes to start is not the template's doing
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    with pytest.raises(TokenizerError) as error:
        template.render(TALK)
    assert time.perf_counter() - started < MOST_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB of our own
    assert str(error.value).startswith("hostile.jinja")
    assert "the chat template" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_no_child_of_a_hostile_template_ever_grew_beyond_its_limit():
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # kB, of all children that ever ended
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # a child begins as a copy of this process
    assert largest < 500_000 or largest <= max(LARGEST_BEFORE[0], ours)


LARGEST_BEFORE: list[int] = []


@pytest.fixture(scope="module", autouse=True)
def largest_before():
    LARGEST_BEFORE.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def test_after_a_hostile_template_others_are_filled_in_as_before():
    template = ChatTemplate("{{ messages[0].content }}{% if mood %}{{ 'a' * 10**12 }}{% endif %}", tokenizer())
    for mood in (False, True, False):
        if mood:
            with pytest.raises(TokenizerError, match="memory"):
                template.render(TALK, mood=True)
        else:
            assert template.render(TALK).text == "Hello"


def test_a_template_that_takes_for_ever_is_ended_and_so_is_its_process():
    template = ChatTemplate(
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", tokenizer()
    )
    child = template.process.running()
    with pytest.raises(TokenizerError, match=r"was stopped after 1\.5 s"):
        template.render(TALK)
    assert child.poll() is not None


def test_the_process_of_a_template_that_is_forgotten_is_ended():
    template = ChatTemplate("{{ messages }}", tokenizer())
    child = template.process.running()
    assert child.poll() is None
    del template
    assert child.poll() is not None


def test_a_process_that_was_ended_from_outside_is_started_again():
    template = ChatTemplate("{{ messages[0].content }}", tokenizer())
    template.render(TALK)
    template.process.running().kill()
    template.process.running().wait()
    assert template.render(TALK).text == "Hello"


def test_what_fills_in_templates_can_open_no_file_and_start_no_process(tmp_path: Path):
    """Even where somebody gets out of the sandbox: here the child is told to, by a jinja2 that keeps nothing in."""
    import subprocess
    import sys

    from glassformer.tokenizers import template_child

    script = (
        f"import sys; sys.path.insert(0, {str(Path(template_child.__file__).parent)!r})\n"
        "import template_child, os, subprocess\n"
        "template_child.confine()\n"
        "for attempt in (lambda: open('/etc/passwd'), lambda: open(sys.argv[1], 'w'), lambda: bytearray(10**9)):\n"
        "    try: attempt(); print('done')\n"
        "    except (OSError, MemoryError) as error: print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(tmp_path / "file")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["OSError", "OSError", "MemoryError"]
    assert not os.listdir(tmp_path)
