"""What a client is told whose request cannot be answered."""


class Refusal(Exception):
    """A request is wrong. status: of HTTP, 4xx. The message is one line: what is wrong, where, what to send."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def shown(value: object, limit: int = 60) -> str:
    """What a client sent, short and on one line, for a message."""
    text = ascii(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
