/**
 * Server reflection, so that grpcurl and its like need no proto files. v1 and v1alpha are the same bytes
 * under two names; both are answered here.
 *
 * Nothing is loaded before the first question: a server that nobody inspects pays nothing.
 */
import { type ServerDuplexStream, status } from "@grpc/grpc-js";
import type {
  ServerReflectionRequest,
  ServerReflectionResponse,
} from "../proto/gen/grpc/reflection/v1/reflection.ts";
import type { DescribedFile } from "./descriptors.ts";
import type { ExtraService } from "./door.ts";

type Answer = NonNullable<ServerReflectionResponse["messageResponse"]>;

const pass = (bytes: Buffer): Buffer => bytes;

export function reflectionServices(): ExtraService[] {
  let loading: Promise<Reflector> | undefined;
  const serve = (call: ServerDuplexStream<Buffer, Buffer>): void => {
    loading ??= load();
    // One after the other, so that answers keep the order of the questions.
    let last: Promise<void> = Promise.resolve();
    call.on("data", (request: Buffer) => {
      last = last.then(async () => {
        try {
          const answer = (await (loading as Promise<Reflector>))(request);
          if (!call.cancelled) call.write(answer);
        } catch {
          call.emit("error", {
            code: status.INVALID_ARGUMENT,
            details: "Not a ServerReflectionRequest.",
          });
        }
      });
    });
    call.on("end", () => void last.then(() => call.end()));
    call.on("error", () => {});
  };
  return ["grpc.reflection.v1", "grpc.reflection.v1alpha"].map((scope) => {
    const method = {
      path: `/${scope}.ServerReflection/ServerReflectionInfo`,
      requestStream: true,
      responseStream: true,
      requestSerialize: pass,
      requestDeserialize: pass,
      responseSerialize: pass,
      responseDeserialize: pass,
    };
    return {
      definition: { serverReflectionInfo: method },
      handlers: { serverReflectionInfo: serve },
    };
  });
}

type Reflector = (request: Buffer) => Buffer;

async function load(): Promise<Reflector> {
  const [messages, { descriptors }, { readDescriptorSet }] = await Promise.all([
    import("../proto/gen/grpc/reflection/v1/reflection.ts"),
    import("../proto/gen/descriptors.ts"),
    import("./descriptors.ts"),
  ]);
  const files = readDescriptorSet(Buffer.from(descriptors, "base64"));
  return (bytes) => {
    const request = messages.ServerReflectionRequest.decode(bytes);
    const response: ServerReflectionResponse = {
      validHost: request.host,
      originalRequest: request,
      messageResponse: answerTo(request, files),
    };
    return Buffer.from(messages.ServerReflectionResponse.encode(response).finish());
  };
}

function answerTo(request: ServerReflectionRequest, files: readonly DescribedFile[]): Answer {
  const asked = request.messageRequest;
  switch (asked?.$case) {
    case "listServices":
      return {
        $case: "listServicesResponse",
        value: { service: files.flatMap((file) => file.services.map((name) => ({ name }))) },
      };
    case "fileByFilename":
      return withImports(files, (file) => file.name === asked.value, `file "${asked.value}"`);
    case "fileContainingSymbol":
      return withImports(
        files,
        (file) => file.symbols.includes(asked.value),
        `symbol "${asked.value}"`,
      );
    case "fileContainingExtension":
      return notFound(`extension of "${asked.value.containingType}"`);
    case "allExtensionNumbersOfType":
      // The contract has no extensions.
      if (!files.some((file) => file.symbols.includes(asked.value)))
        return notFound(`type "${asked.value}"`);
      return {
        $case: "allExtensionNumbersResponse",
        value: { baseTypeName: asked.value, extensionNumber: [] },
      };
    default:
      return {
        $case: "errorResponse",
        value: { errorCode: status.INVALID_ARGUMENT, errorMessage: "The request asks nothing." },
      };
  }
}

function withImports(
  files: readonly DescribedFile[],
  wanted: (file: DescribedFile) => boolean,
  what: string,
): Answer {
  const found = files.find(wanted);
  if (!found) return notFound(what);
  const all = new Set([found]);
  // A Set visits what is added while it is walked.
  for (const file of all) {
    for (const name of file.imports) {
      const imported = files.find((other) => other.name === name);
      if (imported) all.add(imported);
    }
  }
  return {
    $case: "fileDescriptorResponse",
    value: { fileDescriptorProto: [...all].map((file) => file.bytes) },
  };
}

function notFound(what: string): Answer {
  return {
    $case: "errorResponse",
    value: { errorCode: status.NOT_FOUND, errorMessage: `There is no ${what} here.` },
  };
}
