/**
 * The address of a Service, as kube-proxy has it on a node: this process listens there, and a new connection goes to
 * the next pod that is ready. Those that are there stay where they are.
 */
import { connect, createServer } from "node:net";
import { pipeline } from "node:stream";
import { CoreV1Api, DiscoveryV1Api, type KubeConfig } from "@kubernetes/client-node";
import { addAddress } from "./machine.ts";

export interface ServiceAddress {
  /** host:port */
  readonly address: string;
  /** host:port of each pod of it that is ready. */
  ready(): Promise<string[]>;
  close(): void;
}

export async function openServiceAddress(
  kube: KubeConfig,
  namespace: string,
  name: string,
): Promise<ServiceAddress> {
  const { spec } = await kube.makeApiClient(CoreV1Api).readNamespacedService({ namespace, name });
  const { clusterIP: host = "", ports = [] } = spec ?? {};
  const port = ports[0]?.port ?? 0;
  addAddress(host);
  const slices = kube.makeApiClient(DiscoveryV1Api);
  const labelSelector = `kubernetes.io/service-name=${name}`;
  const ready = async (): Promise<string[]> => {
    const { items } = await slices.listNamespacedEndpointSlice({ namespace, labelSelector });
    return items.flatMap(({ endpoints = [], ports: ofPods = [] }) =>
      endpoints
        .filter(({ conditions }) => conditions?.ready)
        .map(({ addresses }) => `${addresses[0]}:${ofPods[0]?.port}`),
    );
  };
  let turn = 0;
  const server = createServer(async (from) => {
    from.on("error", () => {});
    const all = await ready().catch(() => []);
    const next = all[turn++ % all.length];
    if (next === undefined) return from.destroy();
    const [podAddress = "", podPort] = next.split(":");
    const to = connect(Number(podPort), podAddress);
    const end = (): void => {
      from.destroy();
      to.destroy();
    };
    pipeline(from, to, end);
    pipeline(to, from, end);
    return undefined;
  });
  await new Promise<void>((resolve) => server.listen(port, host, resolve));
  return { address: `${host}:${port}`, ready, close: () => void server.close() };
}
