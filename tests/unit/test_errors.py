"""The package's exceptions."""

from shardproxy.errors import PgError, let_go


def failed(message: str) -> PgError:
    """An error that has passed through a frame."""
    try:
        raise PgError("XX000", message)
    except PgError as error:
        return error


def test_errors_that_led_to_one_another_are_all_let_go() -> None:
    """Also where they do so in a circle, or by two ways each."""
    errors = [failed(str(number)) for number in range(60)]
    for one, cause in zip(errors, errors[1:] + errors[:1], strict=True):
        assert one.__traceback__ is not None
        one.__cause__ = one.__context__ = cause
    let_go(errors[0])
    assert [error.__traceback__ for error in errors] == [None] * 60
