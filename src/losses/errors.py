"""The error of an argument that cannot be what it is."""


class BadArgument(ValueError):
    """Raised for an argument whose value a function or class cannot take.

    `argument`, `value` and `why` say which, what it was and what would be right, so that a caller can
    name the argument as its own users know it, without reading the message.
    """

    def __init__(self, argument: str, value: object, why: str):
        self.argument, self.value, self.why = argument, value, why
        super().__init__(f"{argument}={value}: {why}")

    def __reduce__(self):
        return type(self), (self.argument, self.value, self.why)
