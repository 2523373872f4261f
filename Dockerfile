# The server (pod door or gateway). Flags and environment: docker run <image> --help
FROM node:24-slim AS install
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --omit=optional

FROM node:24-slim
WORKDIR /app
COPY --from=install /app/node_modules node_modules
COPY package.json ./
COPY kafka kafka
COPY proto proto
COPY sidecar sidecar
USER 65534
ENTRYPOINT ["node", "sidecar/main.ts"]
