"""The text of an array, a range, a multirange or a composite -> the texts of its parts, None for NULL.

Only what PostgreSQL's input takes apart itself is found. What is malformed is left to it: it says so.
https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-IO-SYNTAX
"""

import re

# Blanks are ASCII's, as they are to PostgreSQL: a no-break space is a text.
_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"|((?:[^",{}\\\s]|\\.)(?:\s*(?:[^",{}\\\s]|\\.))*)', re.DOTALL | re.ASCII)
# Two quoted pieces side by side read as one with a quote in it. Each text can be taken apart in one way alone: with
# several, to find that none fits would take for ever.
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_BOUND = rf'((?:[^,"\\()\[\]]|\\.|{_QUOTED})*)'
_RANGE = re.compile(rf"[\[(]{_BOUND},{_BOUND}[\])]", re.DOTALL)
_FIELD = re.compile(rf'(?:^|,)((?:[^,"\\)]|\\.|{_QUOTED})*)', re.DOTALL)
_QUOTES = re.compile(r'"((?:[^"\\]|\\.|"")*)"|\\(.)', re.DOTALL)
_ESCAPE = re.compile(r'\\(.)|""', re.DOTALL)


def array_items(content: str) -> list[str | None]:
    """The elements, of all dimensions; boxes apart, commas are between them."""
    found = _ITEM.findall(content[content.find("{") :])
    items = [quoted or (None if bare.upper() == "NULL" else bare) for quoted, bare in found]
    return [item and _ESCAPE.sub(r"\1", item) for item in items] if "\\" in content else items


def range_bounds(content: str) -> list[str | None]:
    """The two bounds of a range; none of an empty one."""
    found = _RANGE.fullmatch(content.strip())
    return [_unquoted(bound) for bound in found.groups()] if found else []


def ranges(content: str) -> list[str | None]:
    """The ranges of a multirange."""
    return [found[0] for found in _RANGE.finditer(content)]


def composite_fields(content: str) -> list[str | None]:
    """The fields, as many as there are."""
    inner = content.strip().removeprefix("(").removesuffix(")")
    return [_unquoted(field) for field in _FIELD.findall(inner)]


def _unquoted(content: str) -> str | None:
    """What is between the commas of a range or composite, without its quotes; None if that is nothing."""
    if not content:
        return None
    return _QUOTES.sub(lambda found: found[2] or _ESCAPE.sub(lambda escaped: escaped[1] or '"', found[1]), content)
