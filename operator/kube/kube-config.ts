/** How the API server is reached. */
import { KubeConfig } from "@kubernetes/client-node";

/** @param text a kubeconfig file; undefined: what Kubernetes gives to a pod. @throws with the next step. */
export function kubeConfigOf(text: string | undefined): KubeConfig {
  const config = new KubeConfig();
  if (text === undefined) config.loadFromCluster();
  else {
    try {
      config.loadFromString(text);
    } catch (error) {
      throw new Error(`--kubeconfig cannot be read: ${(error as Error).message}`);
    }
  }
  if (config.getCurrentCluster() === null) {
    throw new Error(
      "--kubeconfig names no current cluster; set its current-context, or run in a pod",
    );
  }
  return config;
}
