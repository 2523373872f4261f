/** The Kubernetes client's APIs: connections that are kept, a time limit on every request, each answer counted. */
import {
  type Configuration,
  createConfiguration,
  IsomorphicFetchHttpLibrary,
  type KubeConfig,
  type RequestContext,
  ServerConfiguration,
  wrapHttpLibrary,
} from "@kubernetes/client-node";

/** @param code HTTP status; 0 when there was no answer. */
export type CountRequest = (method: string, code: number) => void;

/**
 * Without a limit a half-open connection would hold a request, and the work behind it, for ever.
 * @param timeoutMs for each request, from its begin to the head of its answer.
 */
export function kubeClient<Api>(
  config: KubeConfig,
  api: new (configuration: Configuration) => Api,
  timeoutMs: number,
  count: CountRequest,
): Api {
  const fetches = new IsomorphicFetchHttpLibrary();
  let connections: ReturnType<RequestContext["getDispatcher"]>;
  const httpApi = wrapHttpLibrary({
    send: async (request: RequestContext) => {
      request.setSignal(AbortSignal.timeout(timeoutMs));
      // The client makes new ones for each request, and a handshake costs more than the request.
      connections ??= request.getDispatcher();
      if (connections) request.setDispatcher(connections);
      const method = String(request.getHttpMethod());
      try {
        const answer = await fetches.send(request).toPromise();
        count(method, answer.httpStatusCode);
        return answer;
      } catch (error) {
        count(method, 0);
        // With the certificates of now.
        connections = undefined;
        throw error;
      }
    },
  });
  const server = config.getCurrentCluster()?.server ?? "";
  return new api(
    createConfiguration({
      ...{ httpApi, baseServer: new ServerConfiguration(server, {}) },
      authMethods: { default: config },
    }),
  );
}
