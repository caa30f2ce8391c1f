"""Numbers of parameters and bytes, for people."""


def amount_text(parameters: int, size: int) -> str:
    """How large a part of a model is: `1.20M parameters, 4.80 MB`; empty without States.

    Of symbolic sizes, which are no integers, it has the formulas.
    """
    if not size:
        return ""
    if not isinstance(size, int):
        return f"{parameters} parameters, {size} B"
    parts = [_with_unit(size)]
    if parameters:
        plural = "" if parameters == 1 else "s"
        parts.insert(0, f"{_short(parameters)} parameter{plural}")
    return ", ".join(parts)


def _short(number: int) -> str:
    """A number in three digits, with its unit: `999`, `1.23k`, `45.6M`."""
    value = float(number)
    units = ["", "k", "M", "G", "T", "P"]
    # What would be rounded to 1000 belongs to the next unit.
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        del units[0]
    unit = units[0]
    # Not `g`, which writes 1e+03.
    digits = 0 if value >= 99.95 or not unit else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f}{unit}"


def _with_unit(size: int) -> str:
    """A number of bytes: `512 B`, `4.80 MB`."""
    text = _short(size)
    digits = text.rstrip("kMGTP")
    return f"{digits} {text[len(digits) :]}B"
