/** The offsets and the token of a Batch frame, read without the product's own code. */
export function offsetsOf(frame: Buffer): { offsets: number[]; token: Buffer } {
  const offsets: number[] = [];
  let token: Buffer = Buffer.alloc(0);
  let at = 0;
  const varint = (): number => {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = frame[at++] as number;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      scale *= 128;
    }
  };
  if (varint() !== 0x12) return { offsets, token };
  varint();
  while (at < frame.length) {
    const tag = varint();
    if (tag === 0x10) {
      varint();
      continue;
    }
    const end = varint() + at;
    if (tag === 0x7a) token = frame.subarray(at, end);
    if (tag === 0x0a) offsets.push(offsetOf(end));
    at = end;
  }
  return { offsets, token };

  function offsetOf(end: number): number {
    let offset = 0;
    while (at < end) {
      const tag = varint();
      if (tag === 0x18) offset = varint();
      else if ((tag & 7) === 0) varint();
      else if ((tag & 7) === 1) at += 8;
      else {
        const length = varint();
        at += length;
      }
    }
    return offset;
  }
}
