"""Formulas written down: as Unicode, LaTeX or MathML, with symbols, with shapes, or with the numbers of one cell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from glassformer.lens.arithmetic import Numbers
from glassformer.lens.recipes.expression import (
    Add,
    Cases,
    Cell,
    Compare,
    Constant,
    Divide,
    Expression,
    Function,
    Index,
    Multiply,
    Negative,
    Number,
    Over,
    Power,
    Values,
    evaluate,
)

SUM, PRODUCT, SIGN, POWER, ATOM = range(5)  # how tightly a part holds together


def tightness(e: Expression) -> int:
    """What may stand beside this part without brackets around it."""
    match e:
        case Add():
            return SUM
        case Over() | Multiply() | Divide():
            return PRODUCT
        case Negative():
            return SIGN
        case Power():
            return POWER
        case _:
            return ATOM


class Notation(ABC):
    """A way to write formulas. A subclass says how each kind of part looks; which parts need brackets is decided here."""

    def write(self, e: Expression) -> str:
        """The formula in this notation."""
        match e:
            case Number(value):
                return self.number(value)
            case Constant(symbol):
                return self.name(symbol)
            case Index(name):
                return self.name(name)
            case Cell():
                return self.cell(e)
            case Add(parts):
                return self.add(parts)
            case Negative(body):
                return self.sign("−") + self.within(body, PRODUCT)
            case Multiply(parts):
                return self.sign("·").join(self.within(part, PRODUCT) for part in parts)
            case Divide(above, below):
                return self.fraction(above, below)
            case Power(body, power):
                return self.power(self.within(body, ATOM), power)
            case Function(name, body):
                return self.function(name, body)
            case Over():
                return self.over(e)
            case Compare(left, sign, right, words):
                return (words and self.words(words)) or self.write(left) + self.sign(sign) + self.write(right)
            case Cases(condition, then, otherwise):
                return self.cases(condition, then, otherwise)
            case _:
                raise TypeError(f"{type(e).__name__} is no part of a formula")

    def add(self, parts: Sequence[Expression]) -> str:
        """Terms with their signs between them."""
        written = self.within(parts[0], SUM)
        for part in parts[1:]:
            sign, body = ("−", part.body) if isinstance(part, Negative) else ("+", part)
            written += self.sign(sign) + self.within(body, PRODUCT)
        return written

    def within(self, e: Expression, least: int) -> str:
        """The part, in brackets where it would fall apart."""
        written = self.write(e)
        return written if tightness(e) >= least else self.bracketed(written)

    @abstractmethod
    def number(self, value: float) -> str: ...

    @abstractmethod
    def name(self, name: str) -> str: ...

    @abstractmethod
    def words(self, words: str) -> str: ...

    @abstractmethod
    def sign(self, sign: str) -> str: ...

    @abstractmethod
    def bracketed(self, written: str) -> str: ...

    @abstractmethod
    def cell(self, cell: Cell) -> str: ...

    @abstractmethod
    def fraction(self, above: Expression, below: Expression) -> str: ...

    @abstractmethod
    def power(self, written: str, power: int) -> str: ...

    @abstractmethod
    def function(self, name: str, body: Expression) -> str: ...

    @abstractmethod
    def over(self, over: Over) -> str: ...

    @abstractmethod
    def cases(self, condition: Compare, then: Expression, otherwise: Expression) -> str: ...


def plain_number(value: float) -> str:
    """A number of a formula: ``2``, ``0.5``, ``10000``, ``-∞``."""
    return {float("inf"): "∞", float("-inf"): "-∞"}.get(value) or f"{value:.10g}"


class Unicode(Notation):
    """``scores[h,i,j] = Σ_k q[h,i,k]·k[h,j,k]·scale``, for a terminal."""

    def number(self, value: float) -> str:
        return plain_number(value)

    def name(self, name: str) -> str:
        return name

    def words(self, words: str) -> str:
        return words

    def sign(self, sign: str) -> str:
        return {"·": "·", "−": " - "}.get(sign, f" {sign} ")

    def write(self, e: Expression) -> str:
        if isinstance(e, Negative):  # a sign of its own stands close to what it belongs to
            return "-" + self.within(e.body, PRODUCT)
        return super().write(e)

    def bracketed(self, written: str) -> str:
        return f"({written})"

    def within(self, e: Expression, least: int) -> str:
        return self.bracketed(self.write(e)) if isinstance(e, Cases) else super().within(e, least)

    def cell(self, cell: Cell) -> str:
        return f"{cell.symbol}[{','.join(self.write(part) for part in cell.index)}]" if cell.index else cell.symbol

    def fraction(self, above: Expression, below: Expression) -> str:
        return f"{self.within(above, PRODUCT)}/{self.within(below, SIGN)}"

    def power(self, written: str, power: int) -> str:
        return written + {2: "²", 3: "³"}.get(power, f"^{power}")

    def function(self, name: str, body: Expression) -> str:
        inner = self.write(body)
        if name == "√":
            return f"√{inner}" if tightness(body) == ATOM and not isinstance(body, Function) else f"√({inner})"
        return self.spellings.get(name, f"{name}({{}})").format(inner)

    spellings: Mapping[str, str] = {"max0": "max(0, {})", "floor": "⌊{}⌋", "half": "⌊{}/2⌋", "abs": "|{}|"}

    def over(self, over: Over) -> str:
        if over.how == "Σ":
            return f"Σ_{over.axis} {self.within(over.body, PRODUCT)}"
        return f"{over.how}_{over.axis} {self.within(over.body, ATOM)}"

    def cases(self, condition: Compare, then: Expression, otherwise: Expression) -> str:
        return f"{self.write(then)} where {self.write(condition)}, else {self.write(otherwise)}"


@dataclass(frozen=True)
class Shapes(Unicode):
    """The same with the shape of every tensor in place of its cell: ``Σ_k q[2×3×8]·k[2×3×8]``."""

    shapes: Mapping[str, tuple[int, ...]]

    def cell(self, cell: Cell) -> str:
        return f"{cell.symbol}[{'×'.join(map(str, self.shapes[cell.symbol])) or '1'}]"


@dataclass(frozen=True)
class InNumbers(Unicode):
    """The same with the numbers of one cell in place of symbols; every Σ and every largest one stands there as its value."""

    values: Values
    numbers: Numbers

    def number(self, value: float) -> str:
        return plain_number(value)

    def shown(self, e: Expression) -> str:
        """The value of a part."""
        value = float(evaluate(e, self.values))
        return f"({self.numbers.show(value)})" if value < 0 else self.numbers.show(value)

    def write(self, e: Expression) -> str:
        match e:
            case Index():
                return str(int(evaluate(e, self.values)))
            case Constant() | Cell() | Over():
                return self.shown(e)
            case Cases(condition, then, otherwise):
                return self.write(then if bool(evaluate(condition, self.values)) else otherwise)
            case _:
                return super().write(e)


class Latex(Notation):
    """For papers and Markdown: ``\\sum_{k} q_{h,i,k} \\cdot k_{h,j,k}``."""

    letters: Mapping[str, str] = {
        "ε": r"\varepsilon", "γ": r"\gamma", "β": r"\beta", "θ": r"\theta", "π": r"\pi", "∞": r"\infty", "σ": r"\sigma",
        "Φ": r"\Phi", "μ": r"\mu",
    }  # fmt: skip
    functions: Mapping[str, str] = {
        "√": r"\sqrt{{{}}}",
        "max0": r"\max\left(0, {}\right)",
        "floor": r"\left\lfloor {} \right\rfloor",
        "half": r"\left\lfloor {} / 2 \right\rfloor",
        "abs": r"\left|{}\right|",
        "σ": r"\sigma\left({}\right)",
        "Φ": r"\Phi\left({}\right)",
    }
    signs: Mapping[str, str] = {"·": r" \cdot ", "−": " - ", "≥": r" \ge ", "mod 2 =": r" \bmod 2 = "}

    def number(self, value: float) -> str:
        return plain_number(value).replace("∞", r"\infty")

    def name(self, name: str) -> str:
        if name in self.letters or len(name) == 1:
            return self.letters.get(name, name)
        return self.words(name)

    def words(self, words: str) -> str:
        return rf"\text{{{words}}}".replace("_", r"\_")

    def sign(self, sign: str) -> str:
        return self.signs.get(sign, f" {sign} ")

    def bracketed(self, written: str) -> str:
        return rf"\left({written}\right)"

    def cell(self, cell: Cell) -> str:
        index = ",".join(self.write(part) for part in cell.index)
        return f"{self.name(cell.symbol)}_{{{index}}}" if index else self.name(cell.symbol)

    def fraction(self, above: Expression, below: Expression) -> str:
        return rf"\frac{{{self.write(above)}}}{{{self.write(below)}}}"

    def power(self, written: str, power: int) -> str:
        return f"{{{written}}}^{{{power}}}"

    def function(self, name: str, body: Expression) -> str:
        return self.functions.get(name, rf"\{name}\left({{}}\right)").format(self.write(body))

    def over(self, over: Over) -> str:
        how = r"\sum" if over.how == "Σ" else rf"\{over.how}"
        return rf"{how}_{{{over.axis}}} {self.within(over.body, PRODUCT)}"

    def cases(self, condition: Compare, then: Expression, otherwise: Expression) -> str:
        rows = (
            rf"{self.write(then)} & \text{{where }} {self.write(condition)} \\ {self.write(otherwise)} & \text{{else}}"
        )
        return rf"\begin{{cases}} {rows} \end{{cases}}"


class MathMl(Notation):
    """For web pages: the inside of a ``<math>`` element."""

    functions: Mapping[str, tuple[str, str]] = {"floor": ("⌊", "⌋"), "abs": ("|", "|")}

    def number(self, value: float) -> str:
        return f"<mn>{plain_number(value)}</mn>"

    def name(self, name: str) -> str:
        return f"<mi>{escape(name)}</mi>"

    def words(self, words: str) -> str:
        return f"<mtext>{escape(words)}</mtext>"

    def sign(self, sign: str) -> str:
        return f"<mo>{escape(sign)}</mo>"

    def bracketed(self, written: str) -> str:
        return self.row(f"{self.sign('(')}{written}{self.sign(')')}")

    def row(self, written: str) -> str:
        """Parts that count as one."""
        return f"<mrow>{written}</mrow>"

    def cell(self, cell: Cell) -> str:
        inner = self.sign(",").join(self.row(self.write(part)) for part in cell.index)
        if not inner:
            return self.name(cell.symbol)
        return f"<msub>{self.name(cell.symbol)}{self.row(inner)}</msub>"

    def fraction(self, above: Expression, below: Expression) -> str:
        return f"<mfrac>{self.row(self.write(above))}{self.row(self.write(below))}</mfrac>"

    def power(self, written: str, power: int) -> str:
        return f"<msup>{self.row(written)}<mn>{power}</mn></msup>"

    def function(self, name: str, body: Expression) -> str:
        inner = self.write(body)
        if name == "√":
            return f"<msqrt>{inner}</msqrt>"
        if name == "max0":
            return self.name("max") + self.bracketed(f"<mn>0</mn>{self.sign(',')}{inner}")
        if name == "half":
            return self.row(f"{self.sign('⌊')}<mfrac>{self.row(inner)}<mn>2</mn></mfrac>{self.sign('⌋')}")
        if name in self.functions:
            left, right = self.functions[name]
            return self.row(self.sign(left) + inner + self.sign(right))
        return self.name(name) + self.bracketed(inner)

    def over(self, over: Over) -> str:
        below = f"<munder>{self.sign(over.how)}{self.name(over.axis)}</munder>"
        return self.row(below + self.within(over.body, PRODUCT))

    def cases(self, condition: Compare, then: Expression, otherwise: Expression) -> str:
        rows = ((then, self.words("where ") + self.write(condition)), (otherwise, self.words("else")))
        table = "".join(f"<mtr><mtd>{self.write(e)}</mtd><mtd>{when}</mtd></mtr>" for e, when in rows)
        return self.row(f"{self.sign('{')}<mtable>{table}</mtable>")


NOTATIONS: dict[str, Notation] = {"unicode": Unicode(), "latex": Latex(), "mathml": MathMl()}
