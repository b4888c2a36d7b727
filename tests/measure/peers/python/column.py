"""Decodes a Rice-coded column: see proto/src/column.rs for the form."""

ESCAPE_ONES = 20
RAW_BITS = 55


def column(data: bytes) -> list[int]:
    if not data:
        return []
    k, zigzag = data[0] & 0x3F, data[0] & 0x40
    at, magnitude, shift = 1, 0, 0
    while True:
        byte = data[at]
        at += 1
        magnitude |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    value = -magnitude if data[0] & 0x80 else magnitude
    values = [value]
    # One great integer, most significant bit first: Python shifts it faster than it walks bits.
    left = (len(data) - at) * 8
    bits = int.from_bytes(data[at:], "big")
    while left and not (left < 8 and bits == (1 << left) - 1):
        # Ones up to the first zero are the length of the complement's leading zeros.
        zeros = bits ^ ((1 << left) - 1)
        ones = min(left - zeros.bit_length(), ESCAPE_ONES)
        if ones == ESCAPE_ONES:
            left -= ESCAPE_ONES + RAW_BITS
            symbol = (bits >> left) & ((1 << RAW_BITS) - 1)
        else:
            left -= ones + 1 + k
            symbol = (ones << k) | ((bits >> left) & ((1 << k) - 1))
        bits &= (1 << left) - 1
        if zigzag:
            value += (symbol >> 1) ^ -(symbol & 1)
        else:
            value += symbol
        values.append(value)
    return values
