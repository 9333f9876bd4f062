"""The exceptions whose message is written for the person at the keyboard."""


class UserError(Exception):
    """Something the user can mend: one line that says what, where, and what is allowed. Commands print it and exit with 2."""


class Interrupted(BaseException):
    """Training was stopped by a signal, after a checkpoint; commands exit with 128 + signum.

    No `Exception`: a sweep takes those for one failed job, and would go on with the next.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum
