// Decodes a Rice-coded column: see proto/src/column.rs for the form. Values stay below 2^53, so numbers hold them.
const ESCAPE_ONES = 20;
const RAW_BITS = 55;

export function column(bytes) {
  if (bytes.length === 0) return [];
  const k = bytes[0] & 0x3f;
  const zigzag = (bytes[0] & 0x40) !== 0;
  let at = 1;
  let magnitude = 0;
  let scale = 1;
  for (;;) {
    const byte = bytes[at++];
    magnitude += (byte & 0x7f) * scale;
    if (byte < 0x80) break;
    scale *= 128;
  }
  let value = bytes[0] & 0x80 ? -magnitude : magnitude;
  const values = [value];
  let bit = at * 8;
  const end = bytes.length * 8;
  const take = (count) => {
    let taken = 0;
    for (let i = 0; i < count; i++, bit++) taken = taken * 2 + ((bytes[bit >> 3] >> (7 - (bit & 7))) & 1);
    return taken;
  };
  // Fewer than eight bits, all of them ones, are the padding.
  const isPadding = () => {
    const left = end - bit;
    return left === 0 || (left < 8 && (bytes[bytes.length - 1] & ((1 << left) - 1)) === (1 << left) - 1);
  };
  while (!isPadding()) {
    let ones = 0;
    while (ones < ESCAPE_ONES && take(1) === 1) ones++;
    const symbol = ones === ESCAPE_ONES ? take(RAW_BITS) : ones * 2 ** k + take(k);
    value += zigzag ? (symbol % 2 ? -(symbol + 1) / 2 : symbol / 2) : symbol;
    values.push(value);
  }
  return values;
}
