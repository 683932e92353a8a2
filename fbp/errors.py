"""The error for input that fbp cannot use."""


class InputError(ValueError):
    """Bad input: the message says what was wrong, where, and what to do.

    The command line prints the message as one line and exits with status 2.

    >>> raise InputError("learning_rate is -0.1: give a positive number")
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: learning_rate is -0.1: give a positive number
    """
