/** P4: a token is read back exactly, or refused. */
import { crc32 } from "node:zlib";
import { expect, test } from "@jest/globals";
import { Failure } from "../../sidecar/failure.ts";
import { decodeToken, encodeToken } from "../../sidecar/token.ts";

const identity = {
  deploymentId: "d1",
  topic: "shop/orders",
  topicId: "0123456789abcdef".repeat(2),
};
const positions = [
  { offset: 0, epoch: -1 },
  { offset: 2 ** 40, epoch: 7 },
];

function told(act: () => unknown): string {
  try {
    act();
    return "accepted";
  } catch (error) {
    return error instanceof Failure ? error.error : String(error);
  }
}

test("a token gives its positions back", () => {
  const read = decodeToken(encodeToken(identity, positions), identity, 2);
  expect(read).toEqual({ kind: "positions", positions });
});

test("partitions that a token does not name start at offset 0", () => {
  const read = decodeToken(encodeToken(identity, positions), identity, 3);
  expect(read.positions[2]).toEqual({ offset: 0, epoch: -1 });
});

test("every bit flipped and every truncation is INVALID_TOKEN", () => {
  const token = encodeToken(identity, positions);
  for (let bit = 0; bit < token.length * 8; bit++) {
    const flipped = Buffer.from(token);
    flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
    expect(told(() => decodeToken(flipped, identity, 2))).toBe("INVALID_TOKEN");
  }
  for (let length = 0; length < token.length; length++) {
    expect(told(() => decodeToken(token.subarray(0, length), identity, 2))).toBe("INVALID_TOKEN");
  }
});

test("a token of another topic or deployment, or of more partitions, is INVALID_TOKEN", () => {
  for (const foreign of [{ topic: "shop/other" }, { deploymentId: "d2" }]) {
    const token = encodeToken({ ...identity, ...foreign }, positions);
    expect(told(() => decodeToken(token, identity, 2))).toBe("INVALID_TOKEN");
  }
  expect(told(() => decodeToken(encodeToken(identity, positions), identity, 1))).toBe(
    "INVALID_TOKEN",
  );
});

test("a token of a newer version names the version it has", () => {
  const token = encodeToken(identity, positions);
  token[0] = 2;
  token.writeUInt32BE(crc32(token.subarray(0, token.length - 4)), token.length - 4);
  expect(() => decodeToken(token, identity, 2)).toThrow(/format version 2/);
});

test("a token from before the topic was recreated is told from a foreign one", () => {
  const token = encodeToken({ ...identity, topicId: "ff".repeat(16) }, positions);
  expect(decodeToken(token, identity, 2).kind).toBe("recreated");
});
