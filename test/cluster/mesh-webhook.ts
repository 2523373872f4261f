/** Another mutating webhook, called after the injector's: it adds a container to the pods of a namespace. */
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { AdmissionregistrationV1Api, V1Pod } from "@kubernetes/client-node";
import { loopbackCertificate } from "../certificate.ts";

export async function openMesh(
  registrations: AdmissionregistrationV1Api,
  namespace: string,
): Promise<{ close(): Promise<void> }> {
  const certificate = await loopbackCertificate();
  const server = createServer(certificate, async (request, response) => {
    let body = "";
    for await (const bytes of request) body += bytes;
    const { uid, object } = JSON.parse(body).request as { uid: string; object: V1Pod };
    const isThere = object.spec?.containers.some(({ name }) => name === "mesh");
    const patch = [{ op: "add", path: "/spec/containers/-", value: { name: "mesh", image: "m" } }];
    const added = {
      patchType: "JSONPatch",
      patch: Buffer.from(JSON.stringify(patch)).toString("base64"),
    };
    const answer = { uid, allowed: true, ...(isThere ? {} : added) };
    const review = { apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview", response: answer };
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(review));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await registrations.createMutatingWebhookConfiguration({
    body: {
      metadata: { name: "zz-mesh" },
      webhooks: [
        {
          ...{ name: "mesh.example.com", admissionReviewVersions: ["v1"], sideEffects: "None" },
          clientConfig: {
            url: `https://127.0.0.1:${port}/`,
            caBundle: Buffer.from(certificate.cert).toString("base64"),
          },
          rules: [
            { apiGroups: [""], apiVersions: ["v1"], resources: ["pods"], operations: ["CREATE"] },
          ],
          namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespace } },
        },
      ],
    },
  });
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
