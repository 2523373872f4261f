/** Reads a FileDescriptorSet as far as reflection needs it: files, their imports, their symbols. */
import { BinaryReader } from "@bufbuild/protobuf/wire";

export interface DescribedFile {
  readonly name: string;
  readonly imports: readonly string[];
  /** Full names of messages, fields, enums, values, services and methods. */
  readonly symbols: readonly string[];
  /** Full names. */
  readonly services: readonly string[];
  /** The serialized FileDescriptorProto. */
  readonly bytes: Buffer;
}

// Field numbers of google/protobuf/descriptor.proto.
const FILE = { name: 1, package: 2, dependency: 3, message: 4, enum: 5, service: 6 };
const MESSAGE = { name: 1, field: 2, nested: 3, enum: 4, oneof: 8 };
/** Name, and values of an enum or methods of a service. */
const LIST = { name: 1, member: 2 };

export function readDescriptorSet(bytes: Buffer): DescribedFile[] {
  return (fieldsOf(bytes).get(1) ?? []).map(readFile);
}

function readFile(bytes: Buffer): DescribedFile {
  const fields = fieldsOf(bytes);
  const scope = text(fields, FILE.package);
  const symbols: string[] = [];
  const services: string[] = [];
  for (const message of fields.get(FILE.message) ?? []) addMessage(symbols, scope, message);
  for (const list of fields.get(FILE.enum) ?? []) addList(symbols, scope, list, scope);
  for (const service of fields.get(FILE.service) ?? []) {
    services.push(addList(symbols, scope, service, undefined));
  }
  return {
    name: text(fields, FILE.name),
    imports: (fields.get(FILE.dependency) ?? []).map((name) => name.toString("utf8")),
    symbols,
    services,
    bytes,
  };
}

function addMessage(symbols: string[], scope: string, bytes: Buffer): void {
  const fields = fieldsOf(bytes);
  const name = join(scope, text(fields, MESSAGE.name));
  symbols.push(name);
  for (const kind of [MESSAGE.field, MESSAGE.oneof]) {
    for (const member of fields.get(kind) ?? [])
      symbols.push(join(name, text(fieldsOf(member), 1)));
  }
  for (const nested of fields.get(MESSAGE.nested) ?? []) addMessage(symbols, name, nested);
  for (const list of fields.get(MESSAGE.enum) ?? []) addList(symbols, name, list, name);
}

/** Values of an enum live in the scope around it, methods in that of their service. */
function addList(
  symbols: string[],
  scope: string,
  bytes: Buffer,
  memberScope: string | undefined,
): string {
  const fields = fieldsOf(bytes);
  const name = join(scope, text(fields, LIST.name));
  symbols.push(name);
  for (const member of fields.get(LIST.member) ?? []) {
    symbols.push(join(memberScope ?? name, text(fieldsOf(member), 1)));
  }
  return name;
}

/** Length-delimited fields by number. */
function fieldsOf(bytes: Buffer): Map<number, Buffer[]> {
  const fields = new Map<number, Buffer[]>();
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (wireType !== 2) {
      reader.skip(wireType, field);
      continue;
    }
    const known = fields.get(field);
    const value = Buffer.from(reader.bytes());
    if (known) known.push(value);
    else fields.set(field, [value]);
  }
  return fields;
}

function text(fields: Map<number, Buffer[]>, field: number): string {
  return fields.get(field)?.at(-1)?.toString("utf8") ?? "";
}

function join(scope: string, name: string): string {
  return scope === "" ? name : `${scope}.${name}`;
}
