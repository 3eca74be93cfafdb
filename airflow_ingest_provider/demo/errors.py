"""What can keep the demo from running."""


class DemoError(Exception):
    """The demo cannot go on: the message says why, and what to do."""


class ServerError(DemoError):
    """No server could be started."""


def sentence(error: Exception) -> str:
    """What the error says, on one line and with an end, so that more can follow it."""
    text = " ".join(str(error).split())
    return text if text.endswith((".", "?", "!")) else f"{text}."
