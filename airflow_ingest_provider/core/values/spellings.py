"""Dates and times as text: whether PostgreSQL's input of a type would drop a part of it without a word.

That input reads a great many forms (datetime.c), and drops what the type has no room for. So a text passes
that looks like one of the forms that a type keeps whole, and what PostgreSQL reads beside them is refused:
a word could be the name of a zone. So is a date of numbers alone whose order is left to the session's DateStyle.
https://www.postgresql.org/docs/current/datetime-input-rules.html
"""

import re
from collections.abc import Callable

from airflow_ingest_provider.core.values.misfit import MisfitError, text

DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
OFFSET = r"(?:Z|[-+][0-9]{2}(?::?[0-9]{2})?)?"


def clock(places: int) -> str:
    """The pattern of a time of day in ISO 8601, with up to so many decimal places."""
    return "[0-9]{2}:[0-9]{2}(?::[0-9]{2}" + (f"(?:\\.[0-9]{{1,{places}}})?" if places else "") + ")?"


_MONTHS = "jan feb mar apr may jun jul aug sep sept oct nov dec january february march april june july august"
_WEEKDAYS = "sun mon tue tues wed weds thu thur thurs fri sat sunday monday tuesday wednesday thursday friday saturday"
_LETTERS: dict[str, str] = {
    **dict.fromkeys(f"{_MONTHS} september october november december".split(), "M"),
    **dict.fromkeys(f"{_WEEKDAYS} ad bc on at".split(), " "),
    **dict.fromkeys(("now", "today", "tomorrow", "yesterday", "epoch", "infinity"), "S"),
    **dict.fromkeys(("am", "pm"), "A"),
    **dict.fromkeys(("j", "jd", "julian"), "J"),
    "t": "T",
}
"""What stands for a word in an outline; words that take nothing away from a date or time are blanks."""

_UNKNOWN = "W"
_WORD = re.compile(r"[^\W\d_]+")
_BLANKS = re.compile(r"[\s,]+")

# Of an outline: one date whose parts hyphens join, and a sign in front of a number beside it.
_HYPHENATED = re.compile(r"(?<![\d:.])(?:\d+|M)-(?:\d+|M)-\d+|^\d{4}-\d{3}\b", re.ASCII)
_SIGN = re.compile(r"[-+]\s*\d", re.ASCII)

# Three numbers of which the first, of one or two digits, need not be the year; and no part of a clock, of an offset,
# or of a date that begins with its year.
_UNORDERED = re.compile(
    r"(?<![\d:./-])(?:\d{1,2}[-/.]|(?<!^\d{4}\ )\d{1,2}\ )[-/.\ ]*\d{1,2}[-/.\ ]+\d(?!\d*:)", re.ASCII
)

_DATE = re.compile(
    r"""
    (?: [-+]?S
      | J?\ ?\d+                                 # 2451187 days, 19990108, 99008
      | \d{4,}[-.]\d{3}                          # a day of a year
      | \d+([-/.])\d{1,2}\1\d+                   # three parts
      | \d{1,4}\ \d{1,2}\ \d{1,4}
      | \d+ [-/.\ ]* M [-/.\ ]* \d+ | M [-/.\ ]* \d+ [-/.\ ]+ \d+
    )
    (?: [T\ ]+ 0?0:00 (?: :00 (?:\.0*)? )? )?    # midnight
    """,
    re.ASCII | re.VERBOSE,
)
_TIME_OF_DAY = r"T?(?:\d{1,2}:\d{1,2}(?::\d{1,2})?(?:\.\d*)?|\d{4}|\d{6}(?:\.\d*)?) ?A?"
_TIME = re.compile(_TIME_OF_DAY, re.ASCII)
_TIME_WITH_ZONE = re.compile(rf"{_TIME_OF_DAY} ?(?:[-+]\d[\d:]*|W[W_/-]*(?:[-+]?\d\d?W?)?)?", re.ASCII)
_READABLE = re.compile(r"\d|now|today|tomorrow|yesterday|epoch|infinity|allballs", re.IGNORECASE)
_TIMES_WITHOUT_DIGITS = ("now", "allballs")


def outline(content: str) -> str:
    """The text with a letter for each kind of word: M a month, S now and its like, A AM or PM, W what is unknown."""
    signs = _WORD.sub(lambda word: _LETTERS.get(word[0].lower(), _UNKNOWN), content)
    return _BLANKS.sub(" ", signs).strip()


def _is_refused_anyway(content: str) -> bool:
    """Whether it holds nothing that PostgreSQL could read: its own error says so better."""
    return _READABLE.search(content) is None


def ordered(content: str, shape: str) -> str:
    """The text of this outline, if its date reads the same under every DateStyle, or names its month."""
    if "M" not in shape and _UNORDERED.search(shape):
        raise MisfitError("the order of its day and month hangs on the session's DateStyle: write YYYY-MM-DD")
    return content


def date_text(value: str) -> str:
    """What `date` reads whole."""
    content = text(value)
    shape = outline(content)
    if _DATE.fullmatch(shape) is None and not _is_refused_anyway(content):
        raise MisfitError(
            "it holds more than a date, and date would drop its time of day or zone: write YYYY-MM-DD, "
            "or declare timestamp"
        )
    return ordered(content, shape)


def timestamp_text(name: str, places: int) -> Callable[[str], str]:
    """The conversion of what `timestamp` reads whole."""
    simple = re.compile(f"{DAY}(?:[ T]{clock(places)})?")

    def convert(value: str) -> str:
        if simple.fullmatch(value):
            return text(value)
        content = with_places(value, name, places)
        shape = outline(content)
        if (_UNKNOWN in shape or _SIGN.search(_HYPHENATED.sub(" ", shape, count=1))) and not _is_refused_anyway(
            content
        ):
            raise MisfitError(
                f"it names a zone, or holds a word that is none of a date, which {name} would drop: "
                "write YYYY-MM-DD hh:mm:ss, or declare the type with time zone"
            )
        return ordered(content, shape)

    return convert


def timestamp_with_zone_text(name: str, places: int) -> Callable[[str], str]:
    """The conversion of what `timestamp with time zone` reads whole."""
    simple = re.compile(f"{DAY}(?:[ T]{clock(places)}{OFFSET})?")

    def convert(value: str) -> str:
        if simple.fullmatch(value):
            return text(value)
        content = with_places(value, name, places)
        return ordered(content, outline(content))

    return convert


def time_text(name: str, places: int) -> Callable[[str], str]:
    """The conversion of what `time` reads whole."""
    return _times(name, places, _TIME, "it names a zone or a date, which {} would drop: write hh:mm:ss")


def time_with_zone_text(name: str, places: int) -> Callable[[str], str]:
    """The conversion of what `time with time zone` reads whole."""
    return _times(name, places, _TIME_WITH_ZONE, "it names a date, which {} would drop: write hh:mm:ss+hh:mm")


def _times(name: str, places: int, form: re.Pattern[str], problem: str) -> Callable[[str], str]:
    def convert(value: str) -> str:
        content = with_places(value, name, places)
        bare = content.strip().lower()
        shape = outline(content)
        if form.fullmatch(shape) is None and bare not in _TIMES_WITHOUT_DIGITS and not _is_refused_anyway(content):
            raise MisfitError(problem.format(name))
        return content

    return convert


def with_places(value: str, name: str, places: int) -> str:
    """The text, if its seconds have no more decimal places than these; of julian days PostgreSQL rounds any."""
    content = text(value)
    seconds = r"(?::\d\d?|(?<!\d)\d{6})"
    if re.search(rf"{seconds}\.\d{{{places}}}\d*[1-9]|J\w* *\d+\.\d*[1-9]", content, re.IGNORECASE):
        raise MisfitError(f"{name} would round it to {places} decimal places: round it in the source")
    return content
