import {
  type Client,
  credentials,
  makeGenericClientConstructor,
  Server,
  ServerCredentials,
} from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import {
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  ServerReflectionService,
} from "../../proto/gen/grpc/reflection/v1/reflection.ts";
import { reflectionServices } from "../../sidecar/reflection.ts";

const server = new Server();
let port = 0;
const clients: Client[] = [];

beforeAll(async () => {
  for (const { definition, handlers } of reflectionServices())
    server.addService(definition, handlers);
  port = await new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
});

afterAll(() => {
  for (const client of clients) client.close();
  server.forceShutdown();
});

type Question = NonNullable<ServerReflectionRequest["messageRequest"]>;

/** Asks all in one stream. */
async function ask(questions: Question[], scope = "grpc.reflection.v1") {
  const path = `/${scope}.ServerReflection/ServerReflectionInfo`;
  const method = { ...ServerReflectionService.serverReflectionInfo, path };
  const Dialer = makeGenericClientConstructor({ info: method }, "");
  const client = new Dialer(`127.0.0.1:${port}`, credentials.createInsecure());
  clients.push(client);
  const call = client.makeBidiStreamRequest(
    path,
    method.requestSerialize,
    method.responseDeserialize,
  );
  for (const messageRequest of questions) call.write({ host: "h", messageRequest });
  call.end();
  const answers: ServerReflectionResponse[] = [];
  for await (const answer of call) answers.push(answer);
  return answers.map(({ messageResponse }) => messageResponse);
}

test.each(["grpc.reflection.v1", "grpc.reflection.v1alpha"])(
  "%s lists the services",
  async (scope) => {
    const [answer] = await ask([{ $case: "listServices", value: "" }], scope);
    if (answer?.$case !== "listServicesResponse") throw new Error("not a list");
    const names = answer.value.service.map(({ name }) => name).sort();
    expect(names).toEqual([
      ...["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"],
      "throughline.v1.ThroughlineService",
    ]);
  },
);

test("symbols of every kind lead to their file, in the order of the questions", async () => {
  const symbols = [
    "throughline.v1.ThroughlineService",
    "throughline.v1.ThroughlineService.Publish",
    "throughline.v1.SubscribeOpen",
    "throughline.v1.SubscribeOpen.topic",
    "throughline.v1.Recovery",
    "throughline.v1.RECOVERY_LATEST",
    "grpc.health.v1.HealthCheckResponse.ServingStatus",
  ];
  const answers = await ask(symbols.map((value) => ({ $case: "fileContainingSymbol", value })));
  for (const [i, answer] of answers.entries()) {
    if (answer?.$case !== "fileDescriptorResponse") throw new Error(`${symbols[i]}: no file`);
    const scope = (symbols[i] ?? "")
      .split(".")
      .slice(0, 3)
      .join(".")
      .replace(/\.[A-Z].*/, "");
    expect(answer.value.fileDescriptorProto[0]?.includes(scope)).toBe(true);
  }
  expect(answers).toHaveLength(symbols.length);
});

test("what is not there is said to be not found; the stream goes on", async () => {
  const answers = await ask([
    { $case: "fileByFilename", value: "nothing.proto" },
    { $case: "fileContainingSymbol", value: "throughline.v1.Nothing" },
    { $case: "fileByFilename", value: "throughline/v1/throughline.proto" },
  ]);
  expect(answers.map((answer) => answer?.$case)).toEqual([
    ...["errorResponse", "errorResponse", "fileDescriptorResponse"],
  ]);
});
