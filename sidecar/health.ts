/**
 * grpc.health.v1: whether this server wants clients, as readiness says it (reliability.ts). The same
 * answer holds for the server as a whole and for each of its services.
 */
import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  type ServerWritableStream,
  status,
} from "@grpc/grpc-js";
import {
  type HealthCheckRequest,
  type HealthCheckResponse,
  HealthService,
} from "../proto/gen/grpc/health/v1/health.ts";
import type { ExtraService } from "./door.ts";

const SERVICES = new Set(["", "throughline.v1.ThroughlineService", "grpc.health.v1.Health"]);
const SERVING = 1;
const NOT_SERVING = 2;
const SERVICE_UNKNOWN = 3;

export interface HealthSource {
  ready(): boolean;
  /** A watch ends then: it must not hold up the server's end. */
  draining(): boolean;
  onReadiness(listener: () => void): () => void;
}

export function healthService(source: HealthSource): ExtraService {
  const answer = (service: string): HealthCheckResponse => {
    if (!SERVICES.has(service)) return { status: SERVICE_UNKNOWN };
    return { status: source.ready() ? SERVING : NOT_SERVING };
  };

  const check: handleUnaryCall<HealthCheckRequest, HealthCheckResponse> = (call, reply) => {
    const response = answer(call.request.service);
    if (response.status !== SERVICE_UNKNOWN) return reply(null, response);
    reply({ code: status.NOT_FOUND, details: `Unknown service "${call.request.service}".` });
  };

  const watch: handleServerStreamingCall<HealthCheckRequest, HealthCheckResponse> = (call) => {
    let last: number | undefined;
    const tell = (): void => {
      const response = answer(call.request.service);
      if (response.status === last) return;
      last = response.status;
      call.write(response);
      if (source.draining()) call.end();
    };
    const stop = source.onReadiness(tell);
    whenOver(call, stop);
    tell();
  };

  return { definition: HealthService, handlers: { check, watch } };
}

function whenOver(call: ServerWritableStream<unknown, unknown>, stop: () => void): void {
  call.on("cancelled", stop);
  call.on("close", stop);
  call.on("error", stop);
}
