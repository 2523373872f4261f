# The server (pod door or gateway), bundled. Flags and environment: docker run <image> --help
FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY . .
RUN node tools/build.ts

FROM node:24-slim
WORKDIR /app
COPY --from=build /app/dist dist
# One arena, and large buffers given back to the system at once: a quarter less memory.
ENV MALLOC_ARENA_MAX=1
ENV MALLOC_MMAP_THRESHOLD_=16384
USER 65534
ENTRYPOINT ["node", "--max-semi-space-size=8", "dist/sidecar.mjs"]
