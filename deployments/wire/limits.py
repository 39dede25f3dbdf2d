"""How much one request may be, on every wire."""

MAX_ROWS = 65_536
MAX_BODY_BYTES = 256 << 20
MAX_ERROR_BYTES = 2000
# Names of more classes than these would be most of an answer.
CLASSES_IN_ANSWERS = 100
